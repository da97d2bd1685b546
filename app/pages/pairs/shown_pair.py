"""The pair that an address shows, cut as it says: for what stands beside the pair page and shows the same."""

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
from app.services.scorings import maps
from app.services.scorings.maps import CutPair


@dataclass(frozen=True, slots=True)
class ShownPair:
    """A pair under the run, source and rule of an address."""

    values: Mapping[str, str]
    """What the address says."""
    view: CutPair
    look: Look


def shown_pair(request: Request, session: Session, pair_id: int) -> ShownPair:
    """The pair as the request's address shows it. Raises Invalid where it names no run."""
    values = filled(request.query_params)
    query = pair_query(values)
    if query.run_id is None:
        raise Invalid("The address names no run; open the pair from its data set.")
    sources = maps.sources_of(session, query.run_id)
    chosen = next((source for source in sources if source.name == query.source), sources[0])
    rule = rule_from(values, chosen.rule)
    view = maps.pair_view(session, pair_id, run_id=query.run_id, source=query.source, rule=rule)
    return ShownPair(values, view, look_from(values))
