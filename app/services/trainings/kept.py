"""How much a mask would keep, from rewards that are stored: what a training's preview shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.tables import Dataset, Pair, Run
from app.services.scorings import maps
from app.services.scorings.cuts import stored_responses
from engine.kept import KeptSums
from engine.rules import SegmentationRule
from engine.sources import SourceName

SAMPLE_PAIRS = 2000
"""More would not change what a person reads off: a share of tokens is then known to about a hundredth."""
SEED = 0


@dataclass(frozen=True, slots=True)
class KeptShares:
    """What a rule keeps of a sample of scored pairs."""

    chosen: float | None
    """Share of the tokens of chosen responses; None where there are none."""
    rejected: float | None
    nothing: int
    """Responses of which no token is left."""
    pairs: int
    """Pairs of the sample."""

    @property
    def drifts(self) -> bool:
        """Whether more is kept of rejected responses than of chosen ones."""
        return self.chosen is not None and self.rejected is not None and self.rejected > self.chosen


def kept_of(session: Session, run: Run, source: SourceName, rule: SegmentationRule) -> KeptShares:
    """What the rule keeps of a seeded sample of the run's pairs, cut with the statistics of the whole run.

    Raises RequestError for a rule that asks for what was not scored.
    """
    known = next(known for known in maps.known_sources(session, run) if known.source.name == source)
    pair_ids = _sample(session, run)
    sums = KeptSums.none()
    for responses in stored_responses(session, run.id, source, rule, pair_ids):
        cut = responses.cut(rule, known.statistics)
        sums = sums.plus(cut.mask, responses.starts, responses.are_chosen)
    return KeptShares(sums.share("chosen"), sums.share("rejected"), sums.nothing, len(pair_ids))


def _sample(session: Session, run: Run) -> list[int]:
    """Ids of up to SAMPLE_PAIRS pairs, the same ones each time."""
    dataset = session.get_one(Dataset, run.dataset_id)
    size = min(SAMPLE_PAIRS, dataset.pair_count)
    positions = np.random.default_rng(SEED).choice(dataset.pair_count, size, replace=False).tolist()
    query = select(Pair.id).where(Pair.dataset_id == dataset.id, Pair.position.in_(positions))
    return list(session.scalars(query))
