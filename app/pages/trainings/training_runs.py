"""What the page of a training shows beside its status: last values, checkpoints, the settled request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import Request
from sqlalchemy.orm import Session

from app.db.tables import Checkpoint, JobStatus, Run
from app.pages.parts.numbers import data_size, plain_number
from app.pages.parts.rendering import url_of
from app.pages.parts.run_facts import facts
from app.pages.parts.training_curves import label_of, place_of
from app.services.runs import metrics
from app.services.runs.views import find_recipe, find_run
from app.services.trainings import checkpoints

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
class LinkedRun:
    """Something that the run belongs to, and where it is."""

    label: str
    name: str
    address: str


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
        if run.request["method"]["name"] == "reward_model"
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


def links_of(request: Request, session: Session, run: Run) -> list[LinkedRun]:
    """The recipe that the run is a step of, the run whose request it began with, the scoring of its masks."""
    links = []
    if run.recipe_id is not None and (recipe := find_recipe(session, run.recipe_id)) is not None:
        address = url_of(request, "recipe", recipe_id=recipe.id)
        links.append(LinkedRun("step of the recipe", recipe.name, address))
    if run.cloned_from is not None and (cloned := find_run(session, run.cloned_from)) is not None:
        links.append(LinkedRun("cloned from", cloned.name, url_of(request, "run", run_id=cloned.id)))
    scored = run.request.get("scoring_run")
    if scored and (scoring := find_run(session, scored["id"])) is not None:
        links.append(LinkedRun("masks from", scoring.name, url_of(request, "run", run_id=scoring.id)))
    return links


def config_groups(run: Run) -> list[ConfigGroup]:
    """The request as the job settled it, in parts; before that, as it was asked."""
    settled: Mapping[str, Any] = run.request.get("settled") or {}
    asked: Mapping[str, Any] = settled.get("request") or settled
    values = {**run.request, **{name: asked[name] for name in GROUPS if name in asked}}
    groups = [ConfigGroup("Models", _models(values))]
    for name, title in GROUPS.items():
        part = values.get(name) if name in values else settled.get(name)
        if isinstance(part, Mapping) and (lines := facts(part)):
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
