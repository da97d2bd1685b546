"""Which scoring runs a data set has, for the selectors of its pages."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.db.tables import JobStatus, Run
from app.pages.parts.numbers import shortened
from app.pages.parts.rendering import Option
from app.services.runs import runs
from app.services.scorings.sources import SCORING

SHOWN_RUNS = 100
LABEL = 28
"""Characters of a name in the selector."""


def scoring_runs(session: Session, dataset_id: int) -> list[Run]:
    """The newest scoring runs of a data set, newest first, each with its job."""
    return runs.newest_runs(session, kind=SCORING, dataset_id=dataset_id, limit=SHOWN_RUNS)


def default_run(found: Sequence[Run]) -> Run:
    """The run to show where none was asked for: the newest that is whole, else that has scored anything."""
    whole = (run for run in found if run.job.status == JobStatus.succeeded)
    begun = (run for run in found if run.job.resume_from)
    return next(whole, None) or next(begun, found[0])


def run_options(found: Sequence[Run], shown: Run) -> list[Option]:
    """The entries of the run selector; the shown run is among them, however old."""
    entries = [run for run in found if run.id != shown.id]
    listed = sorted([*entries, shown], key=lambda run: -run.id)
    states = {run.id: run.job.status for run in found}
    return [Option(str(run.id), _label(run, states.get(run.id)), run.id == shown.id) for run in listed]


def _label(run: Run, status: str | None) -> str:
    state = "" if status in (None, JobStatus.succeeded) else f", {status}"
    return f"Run {run.id}: {_who(run)}{state}"


def _who(run: Run) -> str:
    """The name that somebody gave the run, else the model that it scored by: sources stand beside it."""
    made_up = f"{run.request.get('dataset_name')}: "
    model = run.request.get("policy") or run.request.get("reward_model")
    if run.name.startswith(made_up) and model:
        return shortened(str(model["name"]), LABEL)
    return shortened(run.name.removeprefix(made_up), LABEL)
