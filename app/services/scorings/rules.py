"""The rule of each source of a run: made from its rewards or stated, why, and what its mask comes to.

A run that is scored keeps that in its result, by source, under `masks`; one that was scored before has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.tables import Dataset, Pair, Run
from app.services.scorings.cuts import stored_responses
from engine.default_rules import SAMPLE_RESPONSES, MadeRule, made_rule
from engine.kept import KeptSums, MaskFigures, about_rule
from engine.rules import SegmentationRule
from engine.segmentation.statistics import RewardStatistics
from engine.sources import SOURCES

SAMPLE_PAIRS = 2000
"""More would not change what a person reads off: a share of tokens is then known to about a hundredth."""
SEED = 0
CUT_AGAIN = "stated when the run was cut again"


class SourceMask(NamedTuple):
    """What a run keeps of the rule of a source."""

    reason: str
    """Why it is this rule, in words; '' of a run that kept none."""
    figures: MaskFigures | None
    made: MadeRule | None
    """The rule that is made from the run's rewards, whatever rule the run has."""

    def warnings(self) -> list[str]:
        """What speaks against the mask."""
        return [] if self.figures is None else self.figures.warnings()


def about_mask(fields: Mapping[str, Any]) -> str:
    """Why the rule of a mask that a run holds is what it is, and what the mask comes to."""
    return about_rule(fields["reason"], MaskFigures.from_dict(fields) if "kept_chosen" in fields else None)


def mask_of(run: Run, source: str) -> SourceMask:
    """What the run keeps of the rule of a source."""
    kept = (run.result or {}).get("masks", {}).get(source)
    if kept is None:
        return SourceMask("", None, None)
    made = MadeRule(SegmentationRule.model_validate(kept["made"]["rule"]), kept["made"]["reason"])
    return SourceMask(kept["reason"], MaskFigures.from_dict(kept), made)


def base_of(session: Session, run: Run, source: str, statistics: RewardStatistics) -> MadeRule:
    """The rule made from the run's rewards, for whoever states none: kept with the run, or made now."""
    return mask_of(run, source).made or make(session, run, source, statistics)


def make(session: Session, run: Run, source: str, statistics: RewardStatistics) -> MadeRule:
    """The rule for a source's rewards, of which `statistics` tell, measured on some of its responses."""
    own = SOURCES[source].default_rule
    pair_ids = sampled_pairs(session, run)[: SAMPLE_RESPONSES // 2]
    sample: list[np.ndarray] = []
    for responses in stored_responses(session, run.id, source, own, pair_ids):
        sample += np.split(responses.rewards, responses.starts[1:-1])
    return made_rule(own, statistics, sample)


def settled(
    session: Session, run: Run, source: str, rule: SegmentationRule, statistics: RewardStatistics, reason: str
) -> dict[str, Any]:
    """What the run's result keeps of a source under `masks`. `reason` is empty where nobody stated `rule`."""
    made = base_of(session, run, source, statistics)
    sums = sums_of(session, run, source, rule if reason else made.rule, statistics)
    return {
        "reason": reason or made.reason,
        "made": {"rule": made.rule.model_dump(mode="json"), "reason": made.reason},
        **sums.figures().as_dict(),
    }


def sums_of(
    session: Session,
    run: Run,
    source: str,
    rule: SegmentationRule,
    statistics: RewardStatistics,
    pair_ids: Sequence[int] | None = None,
) -> KeptSums:
    """What a rule keeps of a seeded sample of the run's pairs, cut with the statistics of the whole run.

    Raises RequestError for a rule that asks for what was not scored.
    """
    sums = KeptSums.none()
    if pair_ids is None:
        pair_ids = sampled_pairs(session, run)
    for responses in stored_responses(session, run.id, source, rule, pair_ids):
        cut = responses.cut(rule, statistics)
        sums = sums.plus(cut.mask, responses.starts, responses.are_chosen, cut.cuts)
    return sums


def sampled_pairs(session: Session, run: Run) -> list[int]:
    """Ids of up to SAMPLE_PAIRS pairs, the same ones each time."""
    dataset = session.get_one(Dataset, run.dataset_id)
    size = min(SAMPLE_PAIRS, dataset.pair_count)
    positions = np.random.default_rng(SEED).choice(dataset.pair_count, size, replace=False).tolist()
    query = select(Pair.id).where(Pair.dataset_id == dataset.id, Pair.position.in_(positions))
    return list(session.scalars(query.order_by(Pair.id)))
