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
reward map          all that scoring knows of one response: tokens, lanes, rewards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int32
from pydantic import BaseModel, ConfigDict, Field, model_validator

Side = Literal["chosen", "rejected"]
SIDES: tuple[Side, Side] = ("chosen", "rejected")
SIGN: Mapping[Side, int] = {"chosen": 1, "rejected": -1}
"""z of METHOD: the sign that a segment's polarity must have to agree with the preference."""


# ------------------------------------------------------------------------------------------ what goes in


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversational prompt, as chat templates take it."""

    role: str
    content: str


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


# --------------------------------------------------------------------------- from rewards to a mask: the rule


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Hysteresis(_Strict):
    """The signal turns when a scaled reward leaves the band (-delta, delta) on the other side [sibling]."""

    name: Literal["hysteresis"] = "hysteresis"
    delta: float = Field(0.3, ge=0)
    min_len: int = Field(1, ge=1)
    """Segments shorter than this are merged, shortest first, into the neighbour nearer in mean [ours]."""
    smoothing: Literal["none", "median", "ema"] = "none"
    """What smooths the rewards before the rule: a median of 5, or an exponential average with weight .5."""


class Whole(_Strict):
    """One segment that always agrees: sample-wise supervision."""

    name: Literal["whole"] = "whole"


class Token(_Strict):
    """Every token is a segment: token-wise supervision."""

    name: Literal["token"] = "token"


class Fixed(_Strict):
    """A segment every `length` tokens."""

    name: Literal["fixed"] = "fixed"
    length: int = Field(4, ge=1)


class Step(_Strict):
    """A segment ends with the token that contains a line break: step-wise supervision."""

    name: Literal["step"] = "step"


class Clause(_Strict):
    """A segment ends with a punctuation mark or a line break: step-wise supervision of plain text."""

    name: Literal["clause"] = "clause"


class Sentence(_Strict):
    """A segment a sentence, as a sentence-splitting library sees them."""

    name: Literal["sentence"] = "sentence"
    language: str = Field("en", pattern="^[a-z]{2}$")


class Entropy(_Strict):
    """A token ends a segment when the entropy of its distribution exceeds `threshold` nats
    (arXiv 2501.02790)."""

    name: Literal["entropy"] = "entropy"
    threshold: float = Field(1.75, ge=0)


class Changepoint(_Strict):
    """Segments of constant mean: the optimum that PELT finds for a squared cost, found exactly.

    `penalty` is in units of log(T) times the variance of the noise.
    """

    name: Literal["changepoint"] = "changepoint"
    penalty: float = Field(2.0, gt=0)
    min_len: int = Field(1, ge=1)


Segmenter = Annotated[
    Hysteresis | Whole | Token | Fixed | Step | Clause | Sentence | Entropy | Changepoint,
    Field(discriminator="name"),
]

Baseline = Literal["zero", "batch_mean", "median", "otsu", "sequence_mean"]
Scale = Literal["none", "std"]
Aggregate = Literal["mean", "sum", "last", "min", "max_abs"]


class SegmentationRule(_Strict):
    """All that turns token rewards into a mask (METHOD section 3), with its defaults.

    s_t = (r_t - baseline) / scale; the segmenter cuts s; each segment gets a reward and a polarity; a segment
    is kept iff sign * polarity > 0.
    """

    segmenter: Segmenter = Hysteresis()
    baseline: Baseline | float = "zero"
    """b of the scale. `batch_mean`, `median` and `otsu` are taken over the run, `sequence_mean` over the
    response. A number is taken as it is."""
    scale: Scale | Annotated[float, Field(gt=0)] = "none"
    """q of the scale: 1, the standard deviation of the run's rewards, or a number. 0 counts as 1."""
    aggregate: Aggregate = "mean"
    """How a segment's reward is made of its scaled token rewards."""
    polarity: Literal["signal", "reward"] = "signal"
    """What the mask asks for the sign: the signal [sibling figure], or the sign of the segment reward."""
    neutral: Literal["keep", "drop"] = "keep"
    eos: Literal["keep", "inherit"] = "keep"
    """`keep`: the EOS token always counts, or stopping is never learned. `inherit`: as its segment."""
    nothing_kept: Literal["skip", "fallback_sample", "zero"] = "skip"
    """`skip`: weight 0 and out of the mean's denominator; `fallback_sample`: the whole response counts;
    `zero`: weight 0, but counted in the denominator."""
    margin: float = Field(0.0, ge=0)
    """Drop only segments with sign * reward < -margin * (standard deviation of the run)."""
    soft_tau: float | None = Field(None, gt=0)
    """Temperature of the soft weights sigmoid(sign * reward / tau); None keeps the mask hard."""


class SegmentationRequest(SegmentationRule):
    """The body of `POST /api/v1/segmentations` and of `rewardscope segment FILE`: a rule and one response.

    The run-wide baselines and scales are taken over this one response.
    """

    token_rewards: list[float | None] = Field(min_length=1, max_length=200_000)
    """One a token; null where the reward is missing."""
    sign: Literal[1, -1] = 1
    """+1: the response was chosen or has a positive advantage; -1: rejected."""
    ends_with_eos: bool = True
    """Whether the last token is the EOS, which `eos: keep` protects."""
    entropies: list[float] | None = None
    """Nats, one a token: the `entropy` segmenter needs them."""
    text: str | None = None
    """The response; the `step`, `clause` and `sentence` segmenters need it, together with `offsets`."""
    offsets: list[tuple[int, int]] | None = None
    """Code points [start, end) of every token in `text`."""

    @model_validator(mode="after")
    def _lists_have_one_entry_a_token(self) -> SegmentationRequest:
        tokens = len(self.token_rewards)
        for name in ("entropies", "offsets"):
            values = getattr(self, name)
            if values is not None and len(values) != tokens:
                raise ValueError(f"`{name}` has {len(values)} entries for {tokens} token rewards.")
        if self.segmenter.name == "entropy" and self.entropies is None:
            raise ValueError("The `entropy` segmenter needs `entropies`, one a token.")
        if self.segmenter.name in ("step", "clause", "sentence") and (
            self.text is None or self.offsets is None
        ):
            raise ValueError(f"The `{self.segmenter.name}` segmenter needs `text` and `offsets`.")
        return self

    def rule(self) -> SegmentationRule:
        """The rule alone, without the response."""
        return SegmentationRule.model_validate(
            {name: getattr(self, name) for name in SegmentationRule.model_fields}
        )


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


class ModelReference(_Strict):
    """Where a model lies: a folder, or a name on a hub."""

    path: str = Field(min_length=1)
    revision: str | None = None
    trust_remote_code: bool = False
    """Only where an admin allowed this very model to bring its own code."""
    subfolder: str | None = None


SourceName = Literal["implicit", "rm_prefix", "rm_increment", "spans", "external"]


class SourceRequest(_Strict):
    """One source of token rewards and the rule by which its rewards are cut.

    A rule of None stands for the source's own defaults (METHOD section 3).
    """

    name: SourceName
    rule: SegmentationRule | None = None


class ScoreRequest(_Strict):
    """What to score with: models, sources, numbers of the forward pass. The rows travel beside it."""

    policy: ModelReference | None = None
    reference: ModelReference | None = None
    reward_model: ModelReference | None = None
    sources: list[SourceRequest] = Field(min_length=1)
    beta: float = Field(0.1, gt=0)
    """beta of the implicit reward beta * (log policy - log reference)."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the weights; the head and all sums are float32. `auto`: float32 on CPU, bfloat16 on a GPU."""
    token_budget: int = Field(8192, ge=256)
    """Tokens in one forward pass."""
    max_response_tokens: int = Field(16_384, ge=1)
    """A longer response is refused with its row named."""
    append_eos: bool = True
    """Whether the response is scored with its EOS, as training sees it."""
    chunk_pairs: int = Field(128, ge=1)
    """Pairs a report: rows are sorted by length within a chunk, and a restart goes on after the last one."""


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
