"""Reward maps of a run with the cuts that its rules make: the records that `rewardscope score` writes too."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from app.errors import Conflict
from app.services.paging import DEFAULT_LIMIT, Page
from app.services.scorings import maps
from app.services.scorings.maps import KnownSource, MapView
from app.services.scorings.sources import scoring_run, source_names
from engine.formats.maps import map_record


def sources_of(session: Session, run_id: int) -> list[str]:
    """Names of the sources that the run's records have, in the order of the request. Raises NotFound."""
    return source_names(scoring_run(session, run_id))


def list_records(
    session: Session, run_id: int, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[dict[str, Any]]:
    """Records of a run in the order of its rows, chosen before rejected.

    Raises NotFound, and Conflict before the run has succeeded: masks depend on the numbers of the whole run.
    """
    sources = maps.known_sources(session, scoring_run(session, run_id))
    if not all(known.source.numbers.final for known in sources):
        raise Conflict(
            f"Run {run_id} is not scored to its end, and its masks depend on all of it; wait until it has "
            f"succeeded, or read what there is from /api/v1/runs/{run_id}/maps.",
            code="run_not_over",
        )
    page = maps.list_maps(session, run_id, limit=limit, cursor=cursor)
    return Page([_record(view, sources) for view in page.items], page.next_cursor)


def _record(view: MapView, sources: list[KnownSource]) -> dict[str, Any]:
    cuts = {
        known.source.name: maps.cut(
            view.map, view.text, known.source.name, known.source.rule, known.statistics
        )
        for known in sources
        if known.source.name in view.map.rewards
    }
    return map_record(view.map, cuts, view.text)
