"""From token rewards to the mask that training uses: stored rewards of a scoring run, or a frozen model's.

The masks are cut by `masks.segment_run`, as the dashboard cuts them. Under the density `sample` no reward is
asked for: every token counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32

from engine.default_rules import SAMPLE_RESPONSES, STATED, MadeRule, made_rule
from engine.errors import RequestError
from engine.formats.maps import read_maps
from engine.kept import MaskFigures
from engine.masks import RunSegmentation, segment_run
from engine.requests import ScoreRequest, SourceRequest
from engine.rules import SegmentationRule
from engine.scoring import Models, reward_map, tracks, values_of
from engine.segmentation.statistics import RewardStatistics
from engine.sources import SOURCES, SourceName
from engine.tokens import TokenisedResponse
from engine.training.data import TokenisedPair, with_sides
from engine.training.frozen import FrozenModels
from engine.training.request import TrainingRequest
from engine.types import SIDES, SIGN, Side

CHUNK_PAIRS = 64
"""Pairs that a frozen model reads at a time."""

Tick = Callable[[int, int], None]
"""Hears how many pairs are done, and of how many."""


@dataclass(frozen=True, slots=True)
class TrainingSide:
    """One response, as losses take it, behind those tokens of its prompt that the other side lacks."""

    ids: Int32[np.ndarray, " response"]
    completion: Bool[np.ndarray, " response"]
    """True but for tokens of the prompt, and a first token that nothing precedes."""
    mask: Bool[np.ndarray, " response"] | Float32[np.ndarray, " response"]
    """True where a token counts, or soft weights."""
    counted: bool
    """Whether the response takes part in the denominators (METHOD 3.6)."""
    ends: Bool[np.ndarray, " response"]
    """True at the last token of each segment."""
    closing: Int32[np.ndarray, " closing"]
    """What a reward model reads behind the response before it gives its value."""


@dataclass(frozen=True, slots=True)
class TrainingPair:
    """A prompt with the responses that a method learns from."""

    key: str
    prompt: Int32[np.ndarray, " prompt"]
    sides: Mapping[Side, TrainingSide]

    @property
    def tokens(self) -> int:
        """Tokens that a forward pass reads."""
        return len(self.prompt) + sum(len(side.ids) for side in self.sides.values())


class KeptTokens(NamedTuple):
    """What the masks keep, over all pairs."""

    kept: dict[Side, float]
    """Share of the tokens that count, by side; of soft weights their mean."""
    nothing: dict[Side, int]
    """Responses of which nothing counts."""

    tokens_a_pivot: float | None = None

    def figures(self) -> MaskFigures:
        """What the masks come to."""
        return MaskFigures(self.kept.get("chosen"), self.kept.get("rejected"), self.tokens_a_pivot)

    def warnings(self) -> list[str]:
        """What speaks against such masks."""
        return self.figures().warnings()


class TokenRewards(NamedTuple):
    """Token rewards of responses, laid end to end in the order of the pairs, chosen before rejected."""

    rewards: Float[np.ndarray, " tokens"]
    entropies: Float[np.ndarray, " tokens"] | None


@dataclass(frozen=True, slots=True)
class StoredRewards:
    """Reward maps of a scoring run, and its statistics where they are known, or else those of the rewards."""

    path: Path
    statistics: Mapping[SourceName, RewardStatistics] | None = None
    made: MadeRule | None = None
    """What the scoring run made of all its rewards as the rule of the source; None: it is made here."""


class Supervised(NamedTuple):
    """Pairs with their masks, and the rule that made these."""

    pairs: list[TrainingPair]
    rule: SegmentationRule | None
    reason: str
    """Why it is this rule; '' where nothing is masked."""


def supervise(
    pairs: Sequence[TokenisedPair],
    request: TrainingRequest,
    frozen: FrozenModels,
    stored: StoredRewards | None,
    tick: Tick = lambda done, total: None,
    *,
    makes_rule: bool = False,
) -> Supervised:
    """The pairs with their masks, by the rule of the resolved request; or (`makes_rule`) by one that is made
    from the rewards, as nobody stated any.

    Raises RequestError where stored rewards are of another tokenizer, or lack a row or the source.
    """
    rule, source = request.supervision.rule, request.supervision.source
    if rule is None or rule.keeps_everything:
        return Supervised([_unmasked(pair) for pair in pairs], rule, "")
    if source is None:
        raise RequestError(
            "The request has a rule that makes a mask, and no token rewards to make it of: name a source, a "
            "scoring run, a frozen scorer or a reward model.",
            field="supervision.source",
        )
    statistics = RewardStatistics()
    if stored is not None:
        found = _stored_rewards(pairs, source, stored)
        if stored.statistics is not None and source in stored.statistics:
            statistics = stored.statistics[source]
    else:
        found = _computed_rewards(pairs, request, source, frozen, tick)
    if not statistics.count:
        statistics.add(found.rewards)
    responses = _responses(pairs)
    starts = np.concatenate([[0], np.cumsum([len(one.ids) for one in responses])]).astype(np.int64)
    reason = STATED
    if makes_rule:
        made = stored.made if stored is not None else None
        if made is None:
            made = made_rule(SOURCES[source].default_rule, statistics, _sample(found.rewards, starts))
        rule = request.method.declared.rule_for(request.supervision.density, source, made.rule)
        reason = made.reason
    cut = segment_run(
        found.rewards,
        starts,
        np.array([SIGN[one.side] for one in responses]),
        rule,
        statistics,
        texts=[one.response.text for one in responses],
        offsets=np.concatenate([one.offsets for one in responses]) if responses else None,
        entropies=found.entropies,
        ends_with_eos=np.array([one.eos is not None for one in responses], dtype=np.bool_),
    )
    return Supervised(_masked(pairs, cut), rule, reason)


def _sample(rewards: np.ndarray, starts: np.ndarray) -> list[np.ndarray]:
    """Some responses from all over the data, the same ones each time."""
    if len(starts) < 2:
        return []
    rows = np.unique(np.linspace(0, len(starts) - 2, SAMPLE_RESPONSES).astype(int))
    return [rewards[starts[row] : starts[row + 1]] for row in rows]


def kept_tokens(pairs: Sequence[TrainingPair]) -> KeptTokens:
    """What the masks of these pairs keep."""
    kept, nothing = {}, {}
    for side in SIDES:
        sides = [pair.sides[side] for pair in pairs if side in pair.sides]
        if sides:
            tokens = sum(int(one.completion.sum()) for one in sides)
            kept[side] = sum(float(one.mask.sum()) for one in sides) / max(tokens, 1)
            nothing[side] = sum(not one.mask.any() for one in sides)
    all_sides = [one for pair in pairs for one in pair.sides.values()]
    pivots = sum(max(int(one.ends.sum()) - 1, 0) for one in all_sides)
    tokens = sum(int(one.completion.sum()) for one in all_sides)
    return KeptTokens(kept, nothing, tokens / pivots if pivots else None)


# ------------------------------------------------------------------------------------------------- the masks


def _unmasked(pair: TokenisedPair) -> TrainingPair:
    sides = {}
    for side, one in pair.sides.items():
        ends = np.zeros(len(one.ids), dtype=np.bool_)
        ends[-1] = True
        sides[side] = _side(pair, one, np.ones(len(one.ids), dtype=np.bool_), ends, counted=True)
    return TrainingPair(pair.key, pair.prompt, sides)


def _masked(pairs: Sequence[TokenisedPair], cut: RunSegmentation) -> list[TrainingPair]:
    rows = iter(range(len(cut)))
    made = []
    for pair in pairs:
        sides = {}
        for side, one in _sides(pair):
            row = next(rows)
            part = slice(int(cut.rows.starts[row]), int(cut.rows.starts[row + 1]))
            kept = cut.mask[part] if cut.weights is None else cut.weights[part]
            ends = np.append(cut.cuts[part][1:], True)
            sides[side] = _side(pair, one, kept, ends, counted=bool(cut.counted[row]))
        made.append(TrainingPair(pair.key, pair.prompt, sides))
    return made


def _side(
    pair: TokenisedPair,
    one: TokenisedResponse,
    kept: Bool[np.ndarray, " response"] | Float32[np.ndarray, " response"],
    ends: Bool[np.ndarray, " response"],
    *,
    counted: bool,
) -> TrainingSide:
    """The response behind what of its prompt is its own, of which nothing counts."""
    own = one.prompt[len(pair.prompt) :]
    completion = np.ones(len(one.ids), dtype=np.bool_)
    completion[0] = len(one.prompt) > 0
    mask = np.where(completion, kept, kept.dtype.type(0))
    return TrainingSide(
        ids=np.concatenate([own, one.ids]),
        completion=_behind(own, completion),
        mask=_behind(own, mask),
        counted=counted,
        ends=_behind(own, ends),
        closing=one.closing,
    )


def _behind(own: np.ndarray, lane: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(len(own), lane.dtype), lane]) if len(own) else lane


def _sides(pair: TokenisedPair) -> Iterator[tuple[Side, TokenisedResponse]]:
    return ((side, pair.sides[side]) for side in SIDES if side in pair.sides)


def _responses(pairs: Sequence[TokenisedPair]) -> list[TokenisedResponse]:
    return [one for pair in pairs for _, one in _sides(pair)]


# ----------------------------------------------------------------------------------------------- the rewards


def _stored_rewards(
    pairs: Sequence[TokenisedPair], source: SourceName, stored: StoredRewards
) -> TokenRewards:
    wanted = {(one.key, one.side): one for one in _responses(pairs)}
    rewards: dict[tuple[str, str], np.ndarray] = {}
    entropies: dict[tuple[str, str], np.ndarray] = {}
    for record in read_maps(stored.path):
        place = (record["id"], record["side"])
        if place not in wanted:
            continue
        _check_record(record, wanted[place], source)
        rewards[place] = _numbers(record["token_rewards"][source])
        if record["entropies"] is not None:
            entropies[place] = _numbers(record["entropies"])
    missing = [place for place in wanted if place not in rewards]
    if missing:
        key, side = missing[0]
        raise RequestError(
            f"The scoring run has no rewards of the {side} response of row `{key}` ({len(missing):,} "
            "responses lack theirs); score the same data."
        )
    return TokenRewards(
        _joined([rewards[place] for place in wanted]),
        _joined([entropies[place] for place in wanted]) if len(entropies) == len(wanted) else None,
    )


def _check_record(record: Mapping[str, Any], one: TokenisedResponse, source: SourceName) -> None:
    if source not in record["token_rewards"]:
        there = ", ".join(f"`{name}`" for name in record["token_rewards"]) or "none"
        raise RequestError(f"The scoring run has no source `{source}`; it has {there}.")
    if not np.array_equal(np.asarray(record["offsets"], dtype=np.int64).reshape(-1, 2), one.offsets):
        raise RequestError(
            f"The scoring run cuts the {one.side} response of row `{one.key}` into {len(record['offsets'])} "
            f"tokens, and the trained model into {len(one.ids)} other ones: its mask is of another "
            "tokenizer. Score the data with models that share the tokenizer of the trained one."
        )


def _numbers(values: Sequence[float | None]) -> Float32[np.ndarray, " response"]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float32)


def _joined(parts: Sequence[np.ndarray]) -> Float32[np.ndarray, " tokens"]:
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _computed_rewards(
    pairs: Sequence[TokenisedPair],
    request: TrainingRequest,
    source: SourceName,
    frozen: FrozenModels,
    tick: Tick,
) -> TokenRewards:
    """Rewards of the frozen models on the tokens of the trained one, in the order of the pairs."""
    models = Models(frozen.scorer, frozen.scorer_reference, frozen.reward_model)
    asked = ScoreRequest(
        sources=[SourceRequest(name=source)],
        token_budget=request.optimisation.token_budget,
        template_date=request.data.template_date,
    )
    rewards: list[np.ndarray] = []
    entropies: list[np.ndarray] = []
    for start in range(0, len(pairs), CHUNK_PAIRS):
        tick(start, len(pairs))
        chunk = pairs[start : start + CHUNK_PAIRS]
        responses = _responses(chunk)
        policy = tracks(models.policy, responses, asked, with_distribution=True)
        reference = tracks(models.reference, responses, asked, with_distribution=False)
        values = values_of(models, [with_sides(one.pair, one.sides) for one in chunk], responses, asked)
        for one in zip(responses, policy, reference, values, strict=True):
            read = reward_map(*one, asked)
            rewards.append(read.rewards[source])
            if read.entropies is not None:
                entropies.append(read.entropies)
    tick(len(pairs), len(pairs))
    return TokenRewards(
        _joined(rewards), _joined(entropies) if entropies and len(entropies) == len(rewards) else None
    )
