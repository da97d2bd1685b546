"""Which sources of token rewards a scoring run has: the one look-up that tables, maps and segments share."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.db.tables import Run
from app.errors import Invalid, NotFound, Problem

SCORING = "scoring"
"""The kind of runs that score a data set."""


def find_scoring_run(session: Session, run_id: int) -> Run | None:
    """The scoring run; None where there is none of this id, or one that scores no data set."""
    run = session.get(Run, run_id)
    return run if run is not None and run.kind == SCORING else None


def scoring_run(session: Session, run_id: int) -> Run:
    """The scoring run. Raises NotFound, also for a run that scores no data set."""
    run = find_scoring_run(session, run_id)
    if run is None:
        raise NotFound(f"There is no scoring run {run_id}; the list of runs shows those that exist.")
    return run


def source_names(run: Run) -> list[str]:
    """The sources of a scoring run, in the order in which they were asked for."""
    return [source["name"] for source in run.request["sources"]]


def chosen_source(run: Run, source: str | None) -> str:
    """`source`, or the run's first where it is None. Raises Invalid for one that the run lacks."""
    names = source_names(run)
    if source is None:
        return names[0]
    if source not in names:
        raise Invalid(
            f"Run {run.id} was not scored by `{source}`; choose one of {', '.join(names)}.",
            errors=[Problem(("query", "source"), f"must be one of {', '.join(names)}")],
        )
    return source
