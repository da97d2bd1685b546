"""The rule of a source where nobody states one, made from the run's own rewards, with the reason.

No fixed rule holds for all models: rewards of one scorer fall into two classes, those of another are a peak
with long tails, where Otsu's threshold lies among the outliers. So the baseline, the scale and the threshold
of pivots are chosen by tests of the rewards themselves. The limits below are ours, chosen on the lab's
scorer, small language models and plain distributions. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from engine.masks import segment_run
from engine.rules import SegmentationRule
from engine.segmentation.segmenters.hysteresis import Hysteresis
from engine.segmentation.statistics import NORMAL_MAD, RewardStatistics

LEAST_CLASS = 0.05
"""Share of the rewards that the smaller of two classes must hold."""
LEAST_BETWEEN = 0.7
"""Share of the variance that must lie between two classes; of a normal distribution cut in two it is 0.64."""
MOST_AT_THRESHOLD = 1.5
"""How much denser rewards may lie at the threshold than at the mean of the thinner class. Two separate
classes have less than 1, a lone tail that was cut off more than 2."""
LEAST_SIDE = 0.05
"""Share of the rewards that must lie on either side of a baseline of zero."""
ROBUST_STD = 1.5
"""The standard deviation is the scale up to this many times 1.48 MAD, which is the same where rewards are
normal; beyond, outliers make it."""
TOKENS_A_PIVOT = 12
"""How many tokens there should be to a pivot, at the least."""
TOKENS_A_CLASS_PIVOT = 6
"""The same between two classes, where a pivot is a change of class and not of noise."""
DELTAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.7, 2.0, 2.4, 2.8, 3.4, 4.0, 5.0, 6.0)
LEAST_REWARDS = 200
"""Of fewer the tests above would say what chance says."""
SAMPLE_RESPONSES = 500
"""Responses on which pivots are counted: enough to know their density to a few hundredths."""
STATED = "stated by the request"
"""Why a rule is what it is where somebody named it."""
FROM_REWARDS = "made from this run's rewards"
"""And where nobody did, before the reason."""
ONCE_SCORED = "made from the rewards once the rows are scored: baseline, scale and threshold follow from them"
BEFORE_REWARDS = "the source's own default, for responses are sampled and rewarded only as it trains"
OWN = "the source's own default: rewards of this kind have a zero and a unit of their own"

_WORDS: dict[str | float, str] = {"batch_mean": "mean", "sequence_mean": "mean of each response"}


class MadeRule(NamedTuple):
    """A rule with the sentence that says why it is this one."""

    rule: SegmentationRule
    reason: str
    """Without a capital or a full stop, such as: made from this run's rewards: median, because ..."""


def made_rule(
    own: SegmentationRule,
    statistics: RewardStatistics,
    sample: Sequence[Float[np.ndarray, " _response"]],
) -> MadeRule:
    """The rule for rewards of which `statistics` tell, where `own` is what their source would like.

    sample: token rewards of some responses of the run, NaN where missing, on which pivots are counted. A rule
    without a scale is taken as it is, and so is one of a run with few rewards. A fixed baseline stays.
    """
    if own.scale == "none":
        return MadeRule(own, OWN)
    if statistics.count < LEAST_REWARDS:
        return MadeRule(own, f"the source's own default: {statistics.count} rewards are too few to tell")
    baseline, because = _baseline(own, statistics)
    scale = own.scale
    if baseline != "otsu" and _has_outliers(statistics) and scale == "std":
        scale = "mad"
    rule = own.model_copy(update={"baseline": baseline, "scale": scale})
    rule, pivots = _spaced(rule, sample, statistics)
    return MadeRule(rule, f"{FROM_REWARDS}: {because}; {pivots}" if pivots else f"{FROM_REWARDS}: {because}")


def _baseline(own: SegmentationRule, statistics: RewardStatistics) -> tuple[str | float, str]:
    """The baseline, and why it is this one."""
    if own.baseline == "otsu":
        missing = _not_two_classes(statistics)
        if missing:
            return "median", f"median, because {missing}"
        found = statistics.classes()
        return "otsu", (
            f"Otsu's threshold, because the rewards are two classes: {_share(found.share_low)} around "
            f"{found.low:.2g}, the others around {found.high:.2g}, with {found.between:.0%} of the variance "
            "between the two"
        )
    if own.baseline == "zero":
        below = statistics.share_between(-np.inf, 0.0)
        if not LEAST_SIDE <= below <= 1 - LEAST_SIDE:
            return "median", f"median, because {_share(below)} of the rewards lie below zero"
        return "zero", f"zero, with {_share(below)} of the rewards below it"
    return own.baseline, f"{_WORDS.get(own.baseline, own.baseline)}, as the source has it"


def _not_two_classes(statistics: RewardStatistics) -> str:
    """Why Otsu's threshold does not part two classes; '' where it does."""
    found = statistics.classes()
    if np.isnan(found.between):
        return "all rewards are the same"
    smaller = min(found.share_low, 1 - found.share_low)
    if smaller < LEAST_CLASS:
        return f"the smaller class of Otsu's threshold holds {_share(smaller)} of the tokens"
    if found.between < LEAST_BETWEEN:
        return (
            f"only {found.between:.0%} of the variance lies between the classes of Otsu's threshold: they "
            "are not clearly two"
        )
    reach = (found.high - found.low) / 8
    at_threshold, at_low, at_high = (
        statistics.share_between(at - reach, at + reach) for at in (found.threshold, found.low, found.high)
    )
    thinner = min(at_low, at_high)
    if at_threshold > MOST_AT_THRESHOLD * thinner:
        return (
            f"rewards lie {at_threshold / max(thinner, 1 / statistics.count):.1f} times as dense at Otsu's "
            "threshold as in the middle of its smaller class, which is the tail of the other"
        )
    return ""


def _has_outliers(statistics: RewardStatistics) -> bool:
    robust = NORMAL_MAD * statistics.mad()
    return robust > 0 and statistics.std > ROBUST_STD * robust


def _spaced(
    rule: SegmentationRule, sample: Sequence[Float[np.ndarray, " _response"]], statistics: RewardStatistics
) -> tuple[SegmentationRule, str]:
    """The rule with the lowest threshold, from its own up, that spaces pivots far enough; and how far."""
    segmenter = rule.segmenter
    if not isinstance(segmenter, Hysteresis) or not sample:
        return rule, ""
    wanted = TOKENS_A_CLASS_PIVOT if rule.baseline == "otsu" else TOKENS_A_PIVOT
    rewards = np.concatenate(sample)
    starts = np.concatenate([[0], np.cumsum([len(one) for one in sample])]).astype(np.int64)
    delta, tokens_a_pivot = segmenter.delta, 0.0
    for higher in (delta, *(step for step in DELTAS if step > delta)):
        found = _tokens_a_pivot(_with_delta(rule, higher), rewards, starts, statistics)
        if np.isinf(found) and tokens_a_pivot:
            break  # A threshold that no reward of one side reaches would keep or drop whole responses.
        delta, tokens_a_pivot = higher, found
        if tokens_a_pivot >= wanted:
            break
    of = {"std": " standard deviations", "mad": " x 1.48 MAD"}.get(str(rule.scale), "")
    often = "no pivot" if np.isinf(tokens_a_pivot) else f"1 pivot in {tokens_a_pivot:.0f} tokens"
    return _with_delta(rule, delta), f"threshold {delta:g}{of} gives {often}"


def _with_delta(rule: SegmentationRule, delta: float) -> SegmentationRule:
    return rule.model_copy(update={"segmenter": rule.segmenter.model_copy(update={"delta": delta})})


def _tokens_a_pivot(
    rule: SegmentationRule,
    rewards: Float[np.ndarray, " tokens"],
    starts: Int64[np.ndarray, " rows+1"],
    statistics: RewardStatistics,
) -> float:
    """Infinite without a pivot."""
    cut = segment_run(rewards, starts, np.ones(len(starts) - 1, np.int8), rule, statistics)
    pivots = int(cut.cuts.sum()) - int(np.count_nonzero(np.diff(starts)))
    return len(rewards) / pivots if pivots else float("inf")


def _share(share: float) -> str:
    return f"{share:.1%}" if min(share, 1 - share) < 0.1 else f"{share:.0%}"
