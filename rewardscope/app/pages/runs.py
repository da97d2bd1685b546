"""Runs: the list, and the page of one with progress, log and buttons, which refreshes while it is active."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from rewardscope.app.db.models import JobStatus, Run
from rewardscope.app.dependencies import SessionDep
from rewardscope.app.pages.forms import filled
from rewardscope.app.pages.numbers import count
from rewardscope.app.pages.rendering import PageContext, render, see_other, url_of
from rewardscope.app.pages.rule_controls import rule_query
from rewardscope.app.pages.run_rows import RunRow, percent_done, run_row, seconds_of
from rewardscope.app.services import jobs, runs
from rewardscope.engine.types import SegmentationRule

LOG_LINES = 200
FIRST = ("policy", "reference", "reward_model", "sources", "beta", "pairs", "responses", "tokens", "seconds")
"""Fields that lines begin with, in this order."""
UNTOLD = ("dataset_id", "dataset_name", "run_id", "id", "fingerprint", "trust_remote_code")
"""What the page says elsewhere, or nobody reads."""

router = APIRouter()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsPage(PageContext):
    """The list."""

    runs: list[RunRow]
    next_url: str | None
    first_url: str | None


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that the job said."""

    at: datetime
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class RunStatus:
    """What changes while the run is active."""

    refresh_url: str
    status: str
    is_active: bool
    is_stopping: bool
    """Whether somebody asked it to stop and it has not yet."""
    phase: str
    done: int
    total: int | None
    unit: str
    share: int | None
    eta_seconds: float | None
    attempt: int
    worker: str | None
    started_at: datetime | None
    seconds: float | None
    error: str | None
    traceback: str | None
    log: list[LogLine]
    result_url: str | None
    """Where to see what it left, as soon as there is something."""
    result_label: str
    cancel_url: str | None
    retry_url: str | None
    delete_url: str | None


@dataclass(frozen=True, slots=True)
class RunFragment:
    """What a refresh draws anew."""

    status: RunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage(PageContext):
    """The whole page."""

    id: int
    kind: str
    name: str
    created_at: datetime
    dataset_name: str | None
    dataset_url: str | None
    request_facts: list[tuple[str, str]]
    result_facts: list[tuple[str, str]]
    status: RunStatus


@router.get("/runs", name="pages:runs")
def show_runs(request: Request, session: SessionDep) -> Response:
    """All runs, newest first."""
    cursor = filled(request.query_params).get("cursor")
    found = runs.list_runs(session, cursor=cursor)
    here = url_of(request, "runs")
    page = RunsPage(
        title="Runs",
        section="runs",
        runs=[run_row(request, run) for run in found.items],
        next_url=url_of(request, "runs", {"cursor": found.next_cursor}) if found.next_cursor else None,
        first_url=here if cursor else None,
    )
    return render(request, "runs/index.html", page)


@router.get("/runs/{run_id:int}", name="pages:run")
def show_run(request: Request, session: SessionDep, run_id: int) -> Response:
    """One run."""
    run = runs.get_run(session, run_id)
    line = run_row(request, run)
    page = RunPage(
        title=f"Run {run.id}: {run.name}",
        section="runs",
        id=run.id,
        kind=run.kind,
        name=run.name,
        created_at=run.created_at,
        dataset_name=line.dataset_name,
        dataset_url=line.dataset_url,
        request_facts=facts(run.request),
        result_facts=facts(run.result or {}),
        status=_status(request, session, run),
    )
    return render(request, "runs/show.html", page)


@router.get("/runs/{run_id:int}/status", name="pages:run_status")
def show_status(request: Request, session: SessionDep, run_id: int) -> Response:
    """The part of the page that refreshes itself; once the run is over it asks for the whole page again."""
    run = runs.get_run(session, run_id)
    over = JobStatus(run.job.status).is_over
    fragment = RunFragment(_status(request, session, run))
    return render(request, "runs/_status.html", fragment, headers={"HX-Refresh": "true"} if over else {})


@router.post("/runs/{run_id:int}/cancel", name="pages:run_cancel")
def cancel_run(request: Request, session: SessionDep, run_id: int) -> Response:
    """Asks the run to stop."""
    jobs.cancel(session, run_id)
    return see_other(url_of(request, "run", run_id=run_id))


@router.post("/runs/{run_id:int}/retry", name="pages:run_retry")
def retry_run(request: Request, session: SessionDep, run_id: int) -> Response:
    """Queues the run again; it goes on after what it stored."""
    jobs.retry(session, run_id)
    return see_other(url_of(request, "run", run_id=run_id))


@router.post("/runs/{run_id:int}/delete", name="pages:run_delete")
def delete_run(request: Request, session: SessionDep, run_id: int) -> Response:
    """Deletes the run with all it found."""
    runs.delete_run(session, run_id)
    return see_other(url_of(request, "runs"))


def facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A request or result as lines: models and sources first, what the page tells elsewhere left out."""
    told = {
        name: value for name, value in values.items() if name not in UNTOLD and value not in (None, [], {})
    }
    names = sorted(told, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    return [(name.replace("_", " "), _told(told[name])) for name in names]


def _told(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return count(value) if isinstance(value, int) else f"{value:g}"
    if isinstance(value, Mapping) and "rule" in value:
        return f"{value['name']} ({_told(_rule(value['rule']))})"
    if isinstance(value, Mapping) and "name" in value:
        rest = {key: item for key, item in value.items() if key not in ("name", *UNTOLD) and item is not None}
        return f"{value['name']} ({_told(rest)})" if rest else str(value["name"])
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key.replace('_', ' ')} {_told(item)}" for key, item in value.items() if item is not None
        )
    if isinstance(value, list):
        return "\n".join(_told(item) for item in value)
    return json.dumps(value)


def _rule(values: Mapping[str, Any]) -> dict[str, Any]:
    """A rule by what matters most, and what of the rest is not as usual."""
    rule = SegmentationRule.model_validate(values)
    main = {"segmenter": rule.segmenter.name, "baseline": rule.baseline, "scale": rule.scale}
    return {**main, **rule_query(rule, SegmentationRule())}


def _status(request: Request, session: Session, run: Run) -> RunStatus:
    job = run.job
    status = JobStatus(job.status)
    error = job.error or {}

    def address(name: str) -> str:
        return url_of(request, name, run_id=run.id)

    result_url, result_label = _result(request, run)
    can_retry = status.is_over and status != JobStatus.succeeded
    return RunStatus(
        refresh_url=address("run_status"),
        status=status,
        is_active=not status.is_over,
        is_stopping=job.cancel_requested and not status.is_over,
        phase=job.phase,
        done=job.done,
        total=job.total,
        unit=job.unit,
        share=percent_done(job),
        eta_seconds=jobs.eta_seconds(job),
        attempt=job.attempt,
        worker=job.worker_name,
        started_at=job.started_at,
        seconds=seconds_of(job),
        error=error.get("detail"),
        traceback=error.get("traceback"),
        log=[
            LogLine(line.at, line.level, line.message) for line in jobs.log_tail(session, run.id, LOG_LINES)
        ],
        result_url=result_url,
        result_label=result_label,
        cancel_url=None if status.is_over or job.cancel_requested else address("run_cancel"),
        retry_url=address("run_retry") if can_retry else None,
        delete_url=address("run_delete") if status.is_over else None,
    )


def _result(request: Request, run: Run) -> tuple[str | None, str]:
    """Where the run's result is seen: from the first stored rows on, for a scoring."""
    result = run.result or {}
    if run.kind == "demo" and "dataset_id" in result:
        query = {"run": result.get("run_id"), "sort": "conflict"}
        following = result.get("run_id")
        if following is not None:
            return url_of(request, "run", run_id=following), "Watch the demo being scored"
        return url_of(request, "dataset", query, dataset_id=result["dataset_id"]), "Open the demo data set"
    if run.kind == "scoring" and run.dataset_id is not None and (run.job.resume_from or run.result):
        query = {"run": run.id, "sort": "conflict"}
        return url_of(request, "dataset", query, dataset_id=run.dataset_id), "Open the pairs, conflicts first"
    return None, ""
