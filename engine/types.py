"""The nouns that travel between the rooms: what goes into scoring and what comes out.

Imports no torch, so that the web process may use every one of them. The glossary:

prompt, response    what the policy was given, and what it answered.
chosen, rejected    the sides of a preference pair; a single response is a pair with one side.
policy, reference   the model that is aligned, and the one it started from.
logprob             natural logarithm of the probability of a token, in nats.
token reward        reward t belongs to response token t. Positions count response tokens from 0.
source              what a token reward is read from (`implicit`, `rm_prefix`, ...).
segmenter           the rule that cuts a response.
pivot               first token of a segment, but for the first segment: where the signal turns.
candidate           a zero crossing that need not clear the band: shown, not cut.
segment             a maximal run of one signal, half-open [start, end); segments partition the response.
segment reward      one number a segment, aggregated from its token rewards.
polarity            +1, -1 or 0 (neutral) of a segment.
mask                True where a token counts.
reward map          all that scoring knows of one response: tokens, tracks, rewards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int32
from pydantic import Field

from engine.fields import StrictModel as StrictModel

Side = Literal["chosen", "rejected"]
SIDES: tuple[Side, Side] = ("chosen", "rejected")
SIGN: Mapping[Side, int] = {"chosen": 1, "rejected": -1}
"""z of METHOD: the sign that a segment's polarity must have to agree with the preference."""


# ------------------------------------------------------------------------------------------ what goes in


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, as chat templates take it."""

    role: str
    content: str
    others: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What else templates write of a turn, by their names for it: `reasoning_content`, `tool_calls`, `name`
    and the like. The first turn of a prompt has the row's `tools` here."""

    def as_row(self) -> dict[str, Any]:
        """The message as a row has it, and as templates take it."""
        return {"role": self.role, "content": self.content, **self.others}


@dataclass(frozen=True, slots=True)
class Span:
    """A labelled stretch of a response: code points [start, end) of its text.

    `value` is +1 where the label praises (a correction, `right`), -1 where it blames (an error), and None
    where it only marks the neighbour of a missing word, which says nothing of the marked word itself.
    """

    start: int
    end: int
    label: str
    value: float | None = -1.0


@dataclass(frozen=True, slots=True)
class Response:
    """One side of a pair. `token_rewards` are rewards that came with the data: one a token, or one a span of
    characters when `token_offsets` says which code points each belongs to."""

    text: str
    spans: tuple[Span, ...] | None = None
    """None: nobody annotated this response. Empty: somebody did, and found nothing."""
    token_rewards: tuple[float, ...] | None = None
    """NaN where a reward is missing."""
    token_offsets: tuple[tuple[int, int], ...] | None = None
    logprobs: tuple[float, ...] | None = None
    """Nats, one for each of `token_offsets`, by the policy that wrote the data; NaN where missing."""
    ref_logprobs: tuple[float, ...] | None = None
    """The same of its reference; there are both or none."""
    turns: tuple[Message, ...] = ()
    """The answer as messages, where it is more than one text: `text` is then how people read these, and
    templates are given the messages."""


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """A prompt with a chosen and a rejected response, of which one may be missing (never both)."""

    key: str
    """The user's name for the row, unique in its data set."""
    prompt: str | tuple[Message, ...]
    chosen: Response | None
    rejected: Response | None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def sides(self) -> list[tuple[Side, Response]]:
        """The sides that exist, chosen first."""
        both: list[tuple[Side, Response | None]] = [("chosen", self.chosen), ("rejected", self.rejected)]
        return [(side, response) for side, response in both if response is not None]

    @property
    def says_the_same(self) -> bool:
        """Whether both sides have the same text, so that neither is preferred."""
        one, other = self.chosen, self.rejected
        return one is not None and other is not None and one.text == other.text

    @property
    def brings_tools(self) -> bool:
        """Whether the prompt brings tools for the chat template."""
        return not isinstance(self.prompt, str) and bool(self.prompt) and "tools" in self.prompt[0].others


# ------------------------------------------------------------------------- from rewards to a mask: the result


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens [start, end) of one response."""

    start: int
    end: int
    polarity: int
    """+1, -1, or 0 for a neutral segment (nothing outside the band, or no reward at all)."""
    reward: float
    """Aggregated scaled reward; NaN when every token reward of the segment is missing."""
    kept: bool
    """Whether the segment agrees with the preference and takes part in the loss."""
    disputed: bool = False
    """Whether the signal and the sign of the reward differ: the page shows a badge."""


@dataclass(frozen=True, slots=True)
class Segmentation:
    """One response, cut. Arrays have one entry a response token."""

    scaled: Float32[np.ndarray, " response"]
    """s_t; NaN where the reward is missing."""
    signal: Int8[np.ndarray, " response"]
    candidates: Int32[np.ndarray, " candidates"]
    pivots: Int32[np.ndarray, " pivots"]
    segments: tuple[Segment, ...]
    mask: Bool[np.ndarray, " response"]
    weights: Float32[np.ndarray, " response"]
    """The soft weights, or the mask as 0 and 1."""
    baseline: float
    """b as a number: what was subtracted."""
    scale: float
    """q as a number: what was divided by."""
    missing: int
    """How many token rewards are NaN."""
    counted: bool = True
    """Whether the response takes part in the mean's denominator: False when nothing was kept and
    `nothing_kept` is `skip`."""
    fell_back: bool = False
    """Whether nothing was kept and the whole response counts instead."""


# -------------------------------------------------------------------------------------- what scoring produces


@dataclass(frozen=True, slots=True)
class RewardMap:
    """All that scoring knows of one response. Arrays have one entry a response token, EOS included."""

    key: str
    side: Side
    token_ids: Int32[np.ndarray, " response"]
    offsets: Int32[np.ndarray, "response 2"]
    """Code points [start, end) of the response text; together they cover it. The EOS has (len, len)."""
    eos: str | None
    """How the tokenizer writes its EOS, where the last token is one; None where the response has none."""
    prompt_tokens: int
    truncated_prompt_tokens: int
    """How many prompt tokens were cut from the left to fit the model's context."""
    rewards: Mapping[str, Float32[np.ndarray, " response"]]
    """By source; NaN where missing."""
    logprobs: Float32[np.ndarray, " response"] | None = None
    reference_logprobs: Float32[np.ndarray, " response"] | None = None
    entropies: Float32[np.ndarray, " response"] | None = None
    """Nats, of the policy's distribution from which the token was drawn."""
    ranks: Int32[np.ndarray, " response"] | None = None
    """Tokens of the vocabulary that the policy holds more probable; 0 is its first choice, -1 if missing."""
    totals: Mapping[str, float] = field(default_factory=dict)
    """By source: the reward of the whole response (sum of increments, last level)."""

    @property
    def tokens(self) -> int:
        return len(self.token_ids)

    @property
    def ends_with_eos(self) -> bool:
        return self.eos is not None


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """Some pairs in row order, scored: what a scoring job reports at a time."""

    start: int
    """Position of the first pair among all rows, from 0."""
    pairs: int
    """How many."""
    maps: list[RewardMap]
    """One a response, in the order of the pairs, chosen before rejected."""

    @property
    def end(self) -> int:
        """Position of the row after the last pair: where a restart goes on."""
        return self.start + self.pairs


# --------------------------------------------------------------------------------------------------- requests


class ModelReference(StrictModel):
    """Where a model lies: a folder, or a name on a hub."""

    path: str = Field(min_length=1)
    """A folder, or a name on a hub."""
    revision: str | None = None
    """A branch, tag or commit of the hub."""
    trust_remote_code: bool = False
    """Only where an admin allowed this very model to bring its own code."""
    subfolder: str | None = None
    """Where in the folder or repository it lies."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is. `done` and `total` count `unit`s; total is None while unknown."""

    phase: str
    done: int
    total: int | None
    unit: str = "pairs"


def ranks_to_null(ranks: Int32[np.ndarray, " count"]) -> list[int | None]:
    """Ranks for JSON, which has no -1 that means nothing."""
    return [None if rank < 0 else rank for rank in ranks.tolist()]


def missing_to_null(values: Sequence[float] | np.ndarray) -> list[float | None]:
    """Plain numbers for JSON, which has no NaN: null where a value is missing."""
    return [None if value != value else float(value) for value in values]
