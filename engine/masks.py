"""From token rewards to a mask: scaled, cut, and kept where the segments agree with the preference.

`segment_run` does it for the responses of a whole run at once, `segment_response` for one of them, `answer`
for one that arrives as JSON; the three are one computation. METHOD section 3 has the equations; what it
leaves open is decided here [ours]:

- A segmenter says where a segment's signal comes from: from the segmenter itself (`hysteresis`); from the
  sign of the segment's reward, 0 where that is 0 or missing; or from the preference (`whole`), so that the
  segment always agrees, weights included.
- A segment is disputed where its signal and its reward have opposite signs. Zero disputes nothing.
- A response has nothing kept where all its segments weigh nothing. An EOS that is kept on its own account
  does not change that: a response that should be skipped is skipped with its EOS.
- `margin` rescues segments that disagree; it drops none.
- The soft weights are sigmoid((sign * reward + margin * std) / tau). Neutral segments weigh 1 or 0 as
  `neutral` says. As tau goes to 0 this is the hard mask of `polarity: reward`.
- Rewards that are infinite count as missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int, Int8

# Whoever cuts needs Numba: better when a process starts than in its first request.
import engine.segmentation.machine_code  # noqa: F401
from engine.errors import RequestError
from engine.rules import Baseline, SegmentationRequest, SegmentationRule
from engine.segmentation.compiled import compiled
from engine.segmentation.rows import Rows
from engine.segmentation.segmenter import SEGMENTERS, SignalFrom
from engine.segmentation.segmenters.hysteresis import Hysteresis, reaches, zero_crossings
from engine.segmentation.segments import RaggedSegments, segments
from engine.segmentation.smoothing import smooth
from engine.segmentation.statistics import NORMAL_MAD, RewardStatistics
from engine.types import Segment, Segmentation, missing_to_null


@dataclass(frozen=True, slots=True)
class RunSegmentation:
    """The responses of a run, cut. Row i is tokens [starts[i], starts[i + 1])."""

    rule: SegmentationRule
    rows: Rows
    segments: RaggedSegments
    signal: Int8[np.ndarray, " tokens"]
    cuts: Bool[np.ndarray, " tokens"]
    """True where a segment starts; a pivot is a cut that is not a row's first token."""
    mask: Bool[np.ndarray, " tokens"]
    weights: Float32[np.ndarray, " tokens"] | None
    """The soft weights; None where the mask is hard."""
    polarity: Int8[np.ndarray, " segments"]
    kept: Bool[np.ndarray, " segments"]
    disputed: Bool[np.ndarray, " segments"]
    counted: Bool[np.ndarray, " rows"]
    fell_back: Bool[np.ndarray, " rows"]

    def __len__(self) -> int:
        return len(self.rows)

    def response(self, row: int) -> Segmentation:
        """One response alone."""
        start, end = int(self.rows.starts[row]), int(self.rows.starts[row + 1])
        baseline = float(self.rows.baselines[row])
        rewards = np.asarray(self.rows.rewards[start:end], dtype=np.float64)
        with np.errstate(over="ignore"):
            exact = (rewards - baseline) / self.rows.scale
            scaled = exact.astype(np.float32)
        mask = self.mask[start:end]
        cuts = np.flatnonzero(self.cuts[start:end]).astype(np.int32)
        return Segmentation(
            scaled=scaled,
            signal=self.signal[start:end],
            candidates=zero_crossings(self._seen_when_cut(exact)),
            pivots=cuts[1:],
            segments=tuple(self._segments(row)),
            mask=mask,
            weights=mask.astype(np.float32) if self.weights is None else self.weights[start:end],
            baseline=baseline,
            scale=self.rows.scale,
            missing=int(np.count_nonzero(np.isnan(scaled))),
            counted=bool(self.counted[row]),
            fell_back=bool(self.fell_back[row]),
        )

    def _seen_when_cut(self, scaled: Float64[np.ndarray, " response"]) -> Float32[np.ndarray, " response"]:
        fields = self.rule.segmenter
        if isinstance(fields, Hysteresis):
            scaled = smooth(scaled, np.array([0, len(scaled)]), fields.smoothing)
        with np.errstate(over="ignore"):
            return scaled.astype(np.float32)

    def _segments(self, row: int) -> list[Segment]:
        part = slice(int(self.segments.rows[row]), int(self.segments.rows[row + 1]))
        columns = (
            self.segments.start[part],
            self.segments.end[part],
            self.polarity[part],
            self.segments.reward[part],
            self.kept[part],
            self.disputed[part],
        )
        return [Segment(*fields) for fields in zip(*(column.tolist() for column in columns), strict=True)]


def segment_run(
    rewards: Float[np.ndarray, " tokens"],
    starts: Int[np.ndarray, " row_starts"],
    signs: Int[np.ndarray, " rows"],
    rule: SegmentationRule,
    statistics: RewardStatistics,
    *,
    texts: Sequence[str] | None = None,
    offsets: Int[np.ndarray, "tokens 2"] | None = None,
    entropies: Float[np.ndarray, " tokens"] | None = None,
    ends_with_eos: Bool[np.ndarray, " rows"] | bool = True,
) -> RunSegmentation:
    """Cuts and masks the responses of a run, laid end to end: row i is tokens [starts[i], starts[i + 1]).

    `statistics` are those of the run's rewards, for the baselines and scales that are taken over it. Raises
    RequestError where lengths contradict each other, or where the segmenter needs what is not given.
    """
    rows = _rows(rewards, starts, rule, statistics, texts, offsets, entropies)
    signs = np.asarray(signs, dtype=np.int8)
    if len(signs) != len(rows):
        raise RequestError(f"There are {len(signs)} signs for {len(rows)} responses: give one to each.")
    eos = np.broadcast_to(np.asarray(ends_with_eos, dtype=np.bool_), (len(rows),))
    signal, cuts = rule.segmenter.kind.cut(rows, rule.segmenter)
    pieces = segments(rows, cuts, rule.aggregate)
    count, is_soft = len(pieces.start), rule.soft_tau is not None
    decided = _Decided(
        polarity=np.empty(count, dtype=np.int8),
        kept=np.empty(count, dtype=np.bool_),
        disputed=np.empty(count, dtype=np.bool_),
        signal=signal,
        mask=np.empty(rows.tokens, dtype=np.bool_),
        weights=np.empty(rows.tokens if is_soft else 0, dtype=np.float32),
        counted=np.empty(len(rows), dtype=np.bool_),
        fell_back=np.empty(len(rows), dtype=np.bool_),
    )
    keeps_eos = np.ascontiguousarray(eos) & (rule.eos == "keep")
    _decide(rows.starts, pieces, signs, keeps_eos, _Terms.of(rule, statistics, rows.scale), decided)
    shown = decided._asdict() | {"weights": decided.weights if is_soft else None}
    return RunSegmentation(rule=rule, rows=rows, segments=pieces, cuts=cuts, **shown)


def segment_response(
    rewards: Float[np.ndarray, " response"],
    sign: int,
    rule: SegmentationRule,
    statistics: RewardStatistics,
    *,
    text: str | None = None,
    offsets: Int[np.ndarray, "response 2"] | None = None,
    entropies: Float[np.ndarray, " response"] | None = None,
    ends_with_eos: bool = True,
) -> Segmentation:
    """Cuts and masks one response. `sign` is +1 where it was chosen, -1 where it was rejected.

    Raises RequestError where lengths contradict each other, or where the segmenter needs what is not given.
    """
    run = segment_run(
        rewards,
        np.array([0, len(rewards)]),
        np.array([sign]),
        rule,
        statistics,
        texts=None if text is None else [text],
        offsets=offsets,
        entropies=entropies,
        ends_with_eos=ends_with_eos,
    )
    return run.response(0)


def answer(request: SegmentationRequest) -> dict[str, Any]:
    """The stateless form: signal, candidates, pivots, segments and mask of one response, as plain JSON.

    Baselines and scales of the run are taken over this response. The soft weights are there where they were
    asked for.
    """
    rewards = np.array([math.nan if r is None else r for r in request.token_rewards], dtype=np.float64)
    statistics = RewardStatistics()
    statistics.add(rewards)
    cut = segment_response(
        rewards,
        request.sign,
        request.rule(),
        statistics,
        text=request.text,
        offsets=None if request.offsets is None else np.array(request.offsets, dtype=np.int64),
        entropies=None if request.entropies is None else np.array(request.entropies, dtype=np.float64),
        ends_with_eos=request.ends_with_eos,
    )
    found: dict[str, Any] = {
        "signal": cut.signal.tolist(),
        "candidates": cut.candidates.tolist(),
        "pivots": cut.pivots.tolist(),
        "segments": [
            {
                "start": segment.start,
                "end": segment.end,
                "polarity": segment.polarity,
                "reward": segment.reward if math.isfinite(segment.reward) else None,
            }
            for segment in cut.segments
        ],
        "mask": cut.mask.tolist(),
    }
    if request.soft_tau is not None:
        found["weights"] = missing_to_null(cut.weights)
    return found


def refused_candidates(cut: Segmentation, rule: SegmentationRule) -> dict[int, float]:
    """Position of every zero crossing that stayed within the band -> how far it went, in scaled units.

    Crossing t is refused where |s_u| <= delta for all u from t to the next crossing, s the rewards that the
    rule sees, smoothed if it says so. None is where a rule has no band.
    """
    if not isinstance(rule.segmenter, Hysteresis):
        return {}
    fields = rule.segmenter
    signal: np.ndarray = cut.scaled
    if fields.smoothing != "none":
        # In the types that segmentation has compiled it for.
        row = np.array([0, len(cut.scaled)], dtype=np.int64)
        signal = smooth(cut.scaled.astype(np.float64), row, fields.smoothing)
    reached = reaches(signal, cut.candidates)
    within = np.abs(reached) <= np.float32(fields.delta)
    within &= ~np.isin(cut.candidates, cut.pivots)
    return dict(zip(cut.candidates[within].tolist(), reached[within].tolist(), strict=True))


def dropped_tokens(segments: Sequence[Segment], *, end_kept: bool = False) -> Bool[np.ndarray, " response"]:
    """True at the tokens of segments that are not kept, but (`end_kept`) for the last one, which may count as
    an end of sequence whatever its segment does.

    Where a response falls back to counting as a whole, these are still the segments that do not agree.
    """
    dropped = np.array([not segment.kept for segment in segments], dtype=np.bool_)
    lengths = np.array([segment.end - segment.start for segment in segments], dtype=np.int64)
    tokens = np.repeat(dropped, lengths)
    if end_kept:
        tokens[-1:] = False
    return tokens


def warm_up() -> None:
    """Compiles every loop, or reads it from the cache, so that the first request need not wait for it."""
    for rewards in (np.array([1.0, -1.0], np.float32), np.array([1.0, -1.0], np.float64)):
        statistics = RewardStatistics()
        statistics.add(rewards)
        for fields in (fields for segmenter in SEGMENTERS.values() for fields in segmenter.compiles):
            rule = SegmentationRule(segmenter=fields, baseline="sequence_mean")
            segment_response(rewards, 1, rule, statistics)


def _rows(
    rewards: np.ndarray,
    starts: np.ndarray,
    rule: SegmentationRule,
    statistics: RewardStatistics,
    texts: Sequence[str] | None,
    offsets: np.ndarray | None,
    entropies: np.ndarray | None,
) -> Rows:
    rewards = np.asarray(rewards)
    if rewards.dtype not in (np.float32, np.float64):
        rewards = rewards.astype(np.float64)
    rewards = np.ascontiguousarray(rewards)
    starts = np.ascontiguousarray(starts, dtype=np.int64)
    tokens, count = len(rewards), len(starts) - 1
    if count < 0 or starts[0] != 0 or starts[-1] != tokens or (np.diff(starts) < 0).any():
        raise RequestError(f"The row starts must ascend from 0 to the number of token rewards, {tokens}.")
    for name, track in (("offsets", offsets), ("entropies", entropies)):
        if track is not None and len(track) != tokens:
            raise RequestError(
                f"`{name}` has {len(track)} entries for {tokens} token rewards: give one a token."
            )
    if texts is not None and len(texts) != count:
        raise RequestError(f"There are {len(texts)} texts for {count} responses: give one to each.")
    infinite = np.isinf(rewards)
    if infinite.any():
        rewards = np.where(infinite, rewards.dtype.type(math.nan), rewards)
    baselines = _baselines(rewards, starts, rule.baseline, statistics)
    return Rows(rewards, starts, baselines, _scale(rule, statistics), texts, offsets, entropies)


def _baselines(
    rewards: np.ndarray, starts: np.ndarray, baseline: Baseline | float, statistics: RewardStatistics
) -> Float64[np.ndarray, " rows"]:
    """b of every row; 0 where there is no reward to take it from."""
    count = len(starts) - 1
    match baseline:
        case "sequence_mean":
            return _row_means(rewards, starts)
        case "zero":
            value = 0.0
        case "batch_mean":
            value = statistics.mean
        case "median":
            value = statistics.median()
        case "otsu":
            value = statistics.otsu()
        case _:
            value = float(baseline)
    return np.full(count, 0.0 if math.isnan(value) else value)


def _scale(rule: SegmentationRule, statistics: RewardStatistics) -> float:
    """q; a deviation of 0, or of nothing, counts as 1."""
    if rule.scale == "none":
        return 1.0
    if rule.scale in ("std", "mad"):
        spread = statistics.std if rule.scale == "std" else NORMAL_MAD * statistics.mad()
        return spread if spread > 0 else 1.0
    return float(rule.scale)


@compiled
def _row_means(rewards: np.ndarray, starts: np.ndarray) -> np.ndarray:
    means = np.zeros(len(starts) - 1)
    for row in range(len(starts) - 1):
        total, count = 0.0, 0
        for t in range(starts[row], starts[row + 1]):
            if not np.isnan(rewards[t]):
                total += rewards[t]
                count += 1
        if count:
            means[row] = total / count
    return means


# ------------------------------------------------------------------------------------------ what is kept

OWN, REWARD, PREFERENCE = range(3)
_SIGNAL_FROM: dict[SignalFrom, int] = {"segmenter": OWN, "reward": REWARD, "preference": PREFERENCE}


class _Terms(NamedTuple):
    """What of a rule decides whether a segment counts, as numbers for compiled loops."""

    signal_from: int
    polarity_is_reward: bool
    keeps_neutral: bool
    rescues: bool
    """Whether segments that contradict by no more than `slack` are kept."""
    slack: float
    """The margin, in scaled rewards."""
    tau: float
    """Temperature of the soft weights; 0 where the mask is hard."""
    skips: bool
    """Whether a response of which nothing is kept leaves the mean's denominator."""
    falls_back: bool
    """Whether it counts as a whole instead."""

    @classmethod
    def of(cls, rule: SegmentationRule, statistics: RewardStatistics, scale: float) -> _Terms:
        deviation = statistics.std if math.isfinite(statistics.std) else 0.0
        return cls(
            signal_from=_SIGNAL_FROM[rule.segmenter.kind.signal],
            polarity_is_reward=rule.polarity == "reward",
            keeps_neutral=rule.neutral == "keep",
            rescues=rule.margin > 0,
            slack=rule.margin * deviation / scale,
            tau=rule.soft_tau or 0.0,
            skips=rule.nothing_kept == "skip",
            falls_back=rule.nothing_kept == "fallback_sample",
        )


class _Decided(NamedTuple):
    """What is decided of segments, tokens and rows."""

    polarity: Int8[np.ndarray, " segments"]
    kept: Bool[np.ndarray, " segments"]
    disputed: Bool[np.ndarray, " segments"]
    signal: Int8[np.ndarray, " tokens"]
    mask: Bool[np.ndarray, " tokens"]
    weights: Float32[np.ndarray, " tokens"]
    """Without entries where the mask is hard."""
    counted: Bool[np.ndarray, " rows"]
    fell_back: Bool[np.ndarray, " rows"]


@compiled
def _decide(
    starts: np.ndarray,
    segments: RaggedSegments,
    signs: np.ndarray,
    keeps_eos: np.ndarray,
    terms: _Terms,
    decided: _Decided,
) -> None:
    """Decides row by row. `decided.signal` is filled already where it is the segmenter's own."""
    is_soft = len(decided.weights) > 0
    for row in range(len(starts) - 1):
        first, last = starts[row], starts[row + 1]
        nothing = True
        for k in range(segments.rows[row], segments.rows[row + 1]):
            start, end = first + segments.start[k], first + segments.end[k]
            reward = segments.reward[k]
            signal = _signal(int(decided.signal[start]), reward, int(signs[row]), terms)
            polarity = _polarity(signal, reward, terms)
            kept = _is_kept(polarity, reward, signs[row], terms)
            weight = _weight(kept, polarity, reward, signs[row], terms)
            decided.polarity[k] = polarity
            decided.kept[k] = kept
            decided.disputed[k] = signal * _sign(reward) < 0
            if terms.signal_from != OWN:
                decided.signal[start:end] = signal
            decided.mask[start:end] = kept
            if is_soft:
                decided.weights[start:end] = weight
            nothing = nothing and weight == 0
        decided.counted[row] = not (nothing and terms.skips)
        decided.fell_back[row] = nothing and terms.falls_back
        if nothing:
            decided.mask[first:last] = terms.falls_back
            if is_soft:
                decided.weights[first:last] = 1.0 if terms.falls_back else 0.0
        elif keeps_eos[row]:
            decided.mask[last - 1] = True
            if is_soft:
                decided.weights[last - 1] = 1.0


@compiled
def _signal(own: int, reward: float, sign: int, terms: _Terms) -> int:
    """A segment's signal, of the three that it may be."""
    if terms.signal_from == OWN:
        return own
    return sign if terms.signal_from == PREFERENCE else _sign(reward)


@compiled
def _polarity(signal: int, reward: float, terms: _Terms) -> int:
    """What the mask asks for the sign of a segment."""
    return _sign(reward) if terms.polarity_is_reward and terms.signal_from != PREFERENCE else signal


@compiled
def _is_kept(polarity: int, reward: float, sign: int, terms: _Terms) -> bool:
    """Whether the segment agrees, or contradicts by no more than the margin."""
    if polarity == 0:
        return terms.keeps_neutral
    return sign * polarity > 0 or (terms.rescues and not sign * reward < -terms.slack)


@compiled
def _weight(kept: bool, polarity: int, reward: float, sign: int, terms: _Terms) -> np.float32:
    """What the segment weighs in the loss: 1 or 0, or between the two where weights are soft."""
    if terms.tau > 0 and polarity != 0 and terms.signal_from != PREFERENCE and not np.isnan(reward):
        return np.float32(1 / (1 + np.exp(-(sign * reward + terms.slack) / terms.tau)))
    return np.float32(1.0 if kept else 0.0)


@compiled
def _sign(reward: float) -> int:
    """+1 or -1; 0 of a reward that is 0 or missing."""
    return 1 if reward > 0 else (-1 if reward < 0 else 0)
