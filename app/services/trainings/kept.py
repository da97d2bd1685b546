"""How much a mask would keep, from rewards that are stored: what a training's preview shows."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.db.tables import Run
from app.services.scorings import maps
from app.services.scorings.rules import base_of, sampled_pairs, sums_of
from engine.default_rules import MadeRule
from engine.kept import MaskFigures
from engine.rules import SegmentationRule
from engine.sources import SourceName


@dataclass(frozen=True, slots=True)
class KeptShares:
    """What a rule keeps of a sample of scored pairs."""

    figures: MaskFigures
    nothing: int
    """Responses of which no token is left."""
    pairs: int
    """Pairs of the sample."""

    @property
    def chosen(self) -> float | None:
        """Share of the tokens of chosen responses; None where there are none."""
        return self.figures.chosen

    @property
    def rejected(self) -> float | None:
        """The same of rejected ones."""
        return self.figures.rejected


def kept_of(session: Session, run: Run, source: SourceName, rule: SegmentationRule) -> KeptShares:
    """What the rule keeps of a seeded sample of the run's pairs, cut with the statistics of the whole run.

    Raises RequestError for a rule that asks for what was not scored.
    """
    known = next(known for known in maps.known_sources(session, run) if known.source.name == source)
    pair_ids = sampled_pairs(session, run)
    sums = sums_of(session, run, source, rule, known.statistics, pair_ids)
    return KeptShares(sums.figures(), sums.nothing, len(pair_ids))


def made_by(session: Session, run: Run, source: SourceName) -> MadeRule:
    """The rule that is made from the run's rewards of a source, for trainings that state none."""
    known = next(known for known in maps.known_sources(session, run) if known.source.name == source)
    return base_of(session, run, source, known.statistics)
