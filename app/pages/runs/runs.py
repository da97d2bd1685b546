"""The page of a run, with progress, log and buttons, which refreshes while it is active."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from app.db.tables import JobStatus, Run
from app.dependencies import DatabaseDep, SessionDep
from app.pages.parts.evaluation_figures import FigureTable, figure_table
from app.pages.parts.rendering import PageContext, render, see_other, url_of
from app.pages.parts.run_facts import facts
from app.pages.parts.run_rows import percent_done, run_row, seconds_of
from app.pages.parts.training_curves import CurvesPanel, curves_panel
from app.pages.trainings.token_maps import result_address
from app.pages.trainings.training_runs import (
    ConfigGroup,
    LinkedRun,
    TrainingRest,
    config_groups,
    failure_notes,
    links_of,
    training_rest,
)
from app.services.evaluations import evaluations
from app.services.runs import jobs, runs
from app.services.runs.views import find_model
from app.services.trainings import checkpoints

LOG_LINES = 200
FORMS = {"training": "training_new", "evaluation": "evaluation_new"}
"""Kinds of runs that a form can ask for again with changes."""

router = APIRouter()


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that the job said."""

    at: datetime
    level: str
    text: str
    id: int = 0
    """By which the page finds its place again after a refresh."""


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
    notes: list[str]
    """What is left of a run that failed, in sentences."""
    log: list[LogLine]
    """The last lines."""
    result_url: str | None
    """Where to see what it left, as soon as there is something."""
    result_label: str
    cancel_url: str | None
    retry_url: str | None
    retry_label: str
    clone_url: str | None
    delete_url: str | None
    log_is_cut: bool = False
    """Whether there were more lines before those of `log`."""
    log_url: str | None = None
    """Where all of the log is as text; None while nothing was said."""


@dataclass(frozen=True, slots=True)
class RunFragment:
    """What a refresh draws anew."""

    status: RunStatus


@dataclass(frozen=True, slots=True)
class TrainingFragment:
    """What a refresh draws anew of a training, beside its status."""

    status: RunStatus
    training: TrainingRest


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPage(PageContext):
    """The whole page of a training."""

    id: int
    name: str
    created_at: datetime
    dataset_name: str | None
    dataset_url: str | None
    method: str
    links: list[LinkedRun]
    notes: list[str]
    """What the job had to say of its own result."""
    status: RunStatus
    curves: CurvesPanel
    training: TrainingRest
    config: list[ConfigGroup]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPage(RunPage):
    """The whole page of an evaluation."""

    model_name: str
    model_url: str | None
    reference_name: str | None
    links: list[LinkedRun]
    figures: list[FigureTable]


@router.get("/runs/{run_id:int}", name="pages:run")
def show_run(request: Request, session: SessionDep, run_id: int) -> Response:
    """One run."""
    run = runs.get_run(session, run_id)
    if run.kind == "training":
        return render(request, "trainings/show.html", _training_page(request, session, run))
    if run.kind == "evaluation":
        return render(request, "evaluations/show.html", _evaluation_page(request, session, run))
    page = RunPage(**_common(request, session, run))
    return render(request, "runs/show.html", page)


@router.get("/runs/{run_id:int}/status", name="pages:run_status")
def show_status(request: Request, session: SessionDep, run_id: int) -> Response:
    """The part of the page that refreshes itself; once the run is over it asks for the whole page again.

    The page of a training stays, with its curves as somebody has zoomed them: all that its end changes is in
    the parts that refresh themselves.
    """
    run = runs.get_run(session, run_id)
    over = JobStatus(run.job.status).is_over
    fragment = RunFragment(_status(request, session, run))
    if run.kind == "training":
        return render(request, "runs/_bare_status.html", fragment)
    return render(request, "runs/_status.html", fragment, headers={"HX-Refresh": "true"} if over else {})


@router.get("/runs/{run_id:int}/rest", name="pages:run_rest")
def show_rest(request: Request, session: SessionDep, run_id: int) -> Response:
    """What a training left so far: last values, checkpoints, the end of its log."""
    run = runs.get_run(session, run_id)
    fragment = TrainingFragment(_status(request, session, run), training_rest(request, session, run))
    return render(request, "trainings/_rest.html", fragment)


@router.get("/runs/{run_id:int}/log.txt", name="pages:run_log")
def download_log(database: DatabaseDep, run_id: int) -> Response:
    """All that the job said, as text: a line each with its time, its level and the attempt."""
    with database.session() as session:
        runs.get_run(session, run_id)

    def lines() -> Iterator[str]:
        after = 0
        while True:
            with database.session() as session:
                found = jobs.logs(session, run_id, after)
            if not found:
                return
            after = found[-1].id
            yield "".join(
                f"{line.at.isoformat()} {line.attempt} {line.level:<7} {line.message}\n" for line in found
            )

    name = f"rewardscope-run-{run_id}.log"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingResponse(lines(), media_type="text/plain; charset=utf-8", headers=headers)


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


def _common(request: Request, session: Session, run: Run) -> dict[str, Any]:
    """The fields of every page of a run."""
    line = run_row(request, run)
    return {
        "title": f"Run {run.id}: {run.name}",
        "section": "runs",
        "id": run.id,
        "kind": run.kind,
        "name": run.name,
        "created_at": run.created_at,
        "dataset_name": line.dataset_name,
        "dataset_url": line.dataset_url,
        "request_facts": facts(_told_of(run)),
        "result_facts": facts(run.result or {}),
        "status": _status(request, session, run),
    }


def _told_of(run: Run) -> dict[str, Any]:
    """The request, but for the text of a playground's run, which the playground shows."""
    is_text = run.kind == "playground"
    return {name: value for name, value in run.request.items() if not (is_text and name == "pairs")}


def _training_page(request: Request, session: Session, run: Run) -> TrainingPage:
    line = run_row(request, run)
    method, supervision = run.request["method"]["name"], run.request["supervision"]["density"]
    return TrainingPage(
        title=f"Run {run.id}: {run.name}",
        section="runs",
        id=run.id,
        name=run.name,
        created_at=run.created_at,
        dataset_name=line.dataset_name,
        dataset_url=line.dataset_url,
        method=f"{method}, {supervision}-wise",
        links=links_of(request, session, run),
        notes=list((run.result or {}).get("notes", [])),
        status=_status(request, session, run),
        curves=curves_panel(request, session, [run], compares=False),
        training=training_rest(request, session, run),
        config=config_groups(run),
    )


def _evaluation_page(request: Request, session: Session, run: Run) -> EvaluationPage:
    common = _common(request, session, run)
    common["result_facts"] = facts({k: v for k, v in (run.result or {}).items() if k != "figures"})
    model, reference = run.request["model"], run.request.get("reference")
    known = find_model(session, model["id"])
    return EvaluationPage(
        **common,
        model_name=model["name"],
        model_url=url_of(request, "model", model_id=known.id) if known else None,
        reference_name=reference["name"] if reference else None,
        links=links_of(request, session, run),
        figures=figure_table(evaluations.figures_of(run)),
    )


def _status(request: Request, session: Session, run: Run) -> RunStatus:
    job = run.job
    status = JobStatus(job.status)
    error = job.error or {}

    def address(name: str) -> str:
        return url_of(request, name, run_id=run.id)

    lines = jobs.log_tail(session, run.id, LOG_LINES + 1)
    result_url, result_label = _result(request, run)
    resumes = run.kind == "training" and bool(checkpoints.list_checkpoints(session, run.id))
    form = FORMS.get(run.kind)
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
        notes=failure_notes(session, run) if run.kind == "training" else [],
        log=[LogLine(line.at, line.level, line.message, line.id) for line in lines[-LOG_LINES:]],
        log_is_cut=len(lines) > LOG_LINES,
        log_url=address("run_log") if lines else None,
        result_url=result_url,
        result_label=result_label,
        cancel_url=None if status.is_over or job.cancel_requested else address("run_cancel"),
        retry_url=address("run_retry") if can_retry else None,
        retry_label="Resume" if resumes else "Retry",
        clone_url=url_of(request, form, {"clone": run.id}) if form else None,
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
    if run.kind == "playground" and "lanes" in result:
        return url_of(request, "playground_run", run_id=run.id), "Open it in the playground"
    if (address := result_address(request, run)) is not None:
        return address, "Open the token map"
    if run.kind == "training" and "model_id" in result:
        return url_of(request, "model", model_id=result["model_id"]), "Open the model"
    return None, ""
