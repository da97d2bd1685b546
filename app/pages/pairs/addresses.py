"""The address of a pair, read: which run, source and rule it names, and how somebody looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import Request
from sqlalchemy.orm import Session

from app.errors import Invalid
from app.pages.datasets.table import pair_query
from app.pages.parts.forms import filled
from app.pages.parts.looks import Look, look_from
from app.pages.parts.rule_controls import rule_from
from app.services.pairs.pairs import PairQuery
from app.services.scorings import maps
from app.services.scorings.maps import CutPair, RunSource
from engine.rules import SegmentationRule


@dataclass(frozen=True, slots=True)
class PairAddress:
    """What the address of a pair says."""

    values: Mapping[str, str]
    """Its parameters as they are."""
    query: PairQuery
    """The table that the pair stands in, with run and source."""
    look: Look

    @property
    def run_id(self) -> int:
        """The run that it names. Raises Invalid where it names none."""
        if self.query.run_id is None:
            raise Invalid("The address names no run; open the pair from its data set.")
        return self.query.run_id


def read_address(values: Mapping[str, str]) -> PairAddress:
    """An address by its parameters."""
    return PairAddress(values, pair_query(values), look_from(values))


def address_of(request: Request) -> PairAddress:
    """The address of a request."""
    return read_address(filled(request.query_params))


def chosen_rule(session: Session, address: PairAddress) -> tuple[RunSource, SegmentationRule]:
    """The source that the address names, or the run's first, and the rule that it cuts by. Raises Invalid."""
    sources = maps.sources_of(session, address.run_id)
    source = next((source for source in sources if source.name == address.query.source), sources[0])
    return source, rule_from(address.values, source.rule)


def cut_pair(session: Session, pair_id: int, address: PairAddress) -> CutPair:
    """The pair, cut as the address says. Raises Invalid where it names no run."""
    _, rule = chosen_rule(session, address)
    return maps.pair_view(session, pair_id, run_id=address.run_id, source=address.query.source, rule=rule)
