"""The page of a training: its status with curves, last values, checkpoints, and the settled request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.db.tables import Checkpoint, JobStatus, Run
from app.dependencies import SessionDep
from app.pages.parts.kind_pages import KIND_PAGES, KindPages, ResultLink
from app.pages.parts.numbers import data_size, plain_number
from app.pages.parts.rendering import PageContext, render, url_of
from app.pages.parts.run_facts import facts
from app.pages.parts.run_links import LinkedRun, links_of
from app.pages.parts.run_page import RunStatus, run_status
from app.pages.parts.run_rows import run_row
from app.pages.parts.training_curves import CurvesPanel, curves_panel, label_of, place_of
from app.services.runs import metrics, runs
from app.services.trainings import checkpoints, token_maps
from app.services.trainings.requests import TRAINING
from engine.fields import part_of
from engine.training.methods import METHODS
from engine.training.request import TrainingNumbers

MODELS = ("model", "reference", "scorer", "scorer_reference", "reward_model")
GROUPS = {
    "method": "Method",
    "supervision": "Mask",
    "optimisation": "Optimisation",
    "lora": "Adapters",
    "data": "Rows",
    "keeping": "Checkpoints",
    "machine": "Machine",
    "versions": "Versions",
    "packages": "Versions",
}
WHERE_IT_COMES_FROM = ("data_hash", "extra_datasets", "scoring_run", "suites", "allow_code", "folder")

router = APIRouter()


@dataclass(frozen=True, slots=True)
class CheckpointLine:
    """Weights that are on disk."""

    step: int
    size: str
    created_at: datetime
    is_best: bool
    values: list[str]
    """By the table's columns."""


@dataclass(frozen=True, slots=True)
class ConfigGroup:
    """Part of what was asked, as lines."""

    title: str
    lines: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class TrainingRest:
    """What changes while the training goes on, but for its status and curves."""

    refresh_url: str
    is_active: bool
    last_values: list[tuple[str, str]]
    columns: list[str]
    checkpoints: list[CheckpointLine]
    pairs_url: str | None = None
    """Where pairs are seen across checkpoints; None for models that give tokens no probability."""


@dataclass(frozen=True, slots=True)
class TrainingFragment:
    """What a refresh draws anew of a training, beside its status."""

    status: RunStatus
    training: TrainingRest


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
    """Remarks of the job on its own result."""
    status: RunStatus
    curves: CurvesPanel
    training: TrainingRest
    config: list[ConfigGroup]


@router.get("/runs/{run_id:int}/rest", name="pages:run_rest")
def show_rest(request: Request, session: SessionDep, run_id: int) -> Response:
    """What a training left so far: last values, checkpoints, the end of its log."""
    run = runs.get_run(session, run_id)
    fragment = TrainingFragment(run_status(request, session, run), training_rest(request, session, run))
    return render(request, "trainings/_rest.html", fragment)


def show_training(request: Request, session: Session, run: Run) -> Response:
    """The whole page of a training."""
    line = run_row(request, run)
    method, supervision = run.request["method"]["name"], run.request["supervision"]["density"]
    page = TrainingPage(
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
        status=run_status(request, session, run),
        curves=curves_panel(request, session, [run], compares=False),
        training=training_rest(request, session, run),
        config=config_groups(run),
    )
    return render(request, "trainings/show.html", page)


def training_rest(request: Request, session: Session, run: Run) -> TrainingRest:
    """Last values and checkpoints as they are now."""
    latest = metrics.latest(session, run.id)
    found = checkpoints.list_checkpoints(session, run.id)
    columns = sorted({name for one in found for name in one.metrics}, key=place_of)
    return TrainingRest(
        refresh_url=url_of(request, "run_rest", run_id=run.id),
        is_active=not JobStatus(run.job.status).is_over,
        last_values=[(label_of(name), _value(name, latest[name])) for name in sorted(latest, key=place_of)],
        columns=[label_of(name) for name in columns],
        checkpoints=[_line(one, columns) for one in reversed(found)],
        pairs_url=None
        if run.request["method"]["name"] in token_maps.WITHOUT_LOGPROBS
        else url_of(request, "training_pairs", run_id=run.id),
    )


def failure_notes(session: Session, run: Run) -> list[str]:
    """Where a training stopped that did not succeed, and from where it can go on."""
    job = run.job
    if not JobStatus(job.status).is_over or job.status == JobStatus.succeeded:
        return []
    total = f" of {job.total:,}" if job.total else ""
    notes = [f"It stopped after step {job.done:,}{total}."] if job.started_at else []
    kept = checkpoints.list_checkpoints(session, run.id)
    if kept:
        notes.append(
            f"The last good checkpoint, of step {kept[-1].step:,}, is kept: to resume goes on from there."
        )
    elif job.started_at:
        notes.append("There is no checkpoint yet: to retry begins anew.")
    return notes


def config_groups(run: Run) -> list[ConfigGroup]:
    """The request as the job settled it, in parts; before that, as it was asked."""
    settled: Mapping[str, Any] = run.request.get("settled") or {}
    asked: Mapping[str, Any] = settled.get("request") or settled
    values = {**run.request, **{name: asked[name] for name in GROUPS if name in asked}}
    groups = [ConfigGroup("Models", _models(values))]
    for name, title in GROUPS.items():
        part = values.get(name) if name in values else settled.get(name)
        if isinstance(part, Mapping) and (lines := facts(part, _declared(name, part))):
            groups.append(ConfigGroup(title, lines))
    groups.append(
        ConfigGroup("Data", facts({name: values[name] for name in WHERE_IT_COMES_FROM if values.get(name)}))
    )
    rest = {
        name: value
        for name, value in settled.items()
        if name not in (*GROUPS, *MODELS, *WHERE_IT_COMES_FROM, "request") and value not in (None, {}, [])
    }
    groups.append(ConfigGroup("Made by", facts(rest)))
    return [group for group in groups if group.lines]


def _declared(name: str, part: Mapping[str, Any]) -> type[BaseModel] | None:
    """The class whose fields a part of a training has; None for what is no part of the request."""
    if name == "method":
        method = METHODS.get(part.get("name", ""))
        return None if method is None else method.fields
    return part_of(TrainingNumbers.model_fields[name]) if name in TrainingNumbers.model_fields else None


def _models(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (role.replace("_", " "), f"{values[role]['name']}\n{values[role].get('path', '')}")
        for role in MODELS
        if values.get(role)
    ]


def _line(checkpoint: Checkpoint, columns: Sequence[str]) -> CheckpointLine:
    return CheckpointLine(
        step=checkpoint.step,
        size=data_size(checkpoint.bytes),
        created_at=checkpoint.created_at,
        is_best=checkpoint.is_best,
        values=[plain_number(checkpoint.metrics.get(name), 4) for name in columns],
    )


def _value(name: str, value: float) -> str:
    return data_size(value) if name.endswith("_bytes") else plain_number(value, 4)


def _result(request: Request, run: Run) -> ResultLink | None:
    model_id = (run.result or {}).get("model_id")
    return (
        None
        if model_id is None
        else ResultLink(url_of(request, "model", model_id=model_id), "Open the model")
    )


KIND_PAGES.register(
    KindPages(
        name=TRAINING,
        show=show_training,
        result=_result,
        form="training_new",
        notes=failure_notes,
        refreshes_in_parts=True,
        is_compared=True,
    )
)
