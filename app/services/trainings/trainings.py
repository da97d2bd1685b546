"""Trainings: what may be asked, what the job is given, and what is kept of what it reports and leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.db.maps import read_maps
from app.db.tables import Dataset, Model, Run, SourceStatistics
from app.errors import Conflict
from app.services.datasets.datasets import canonical_rows
from app.services.evaluations.task_suites import write_suites
from app.services.models import models
from app.services.names import MAX_NAME_CHARACTERS, clean_name
from app.services.runs import jobs, metrics
from app.services.runs.folders import begin_empty, folder_of
from app.services.runs.kinds import RUN_KINDS, Clone, RunKind
from app.services.trainings import checkpoints
from app.services.trainings.kept import KeptShares, kept_of, made_by
from app.services.trainings.plans import Plan, make_plan, memory_parts
from app.services.trainings.requests import TRAINING, body_of, training_request
from app.services.trainings.requests import TrainingBody as TrainingBody
from app.settings import Settings
from engine.formats.atomic import atomic_file
from engine.formats.canonical import json_line
from engine.formats.maps import MapWriter
from engine.rules import SegmentationRule
from engine.training.reports import CheckpointSaved, MetricPoints, TrainingBegins, TrainingReport
from engine.training.request import TrainingRequest
from engine.types import ModelReference

MAPS_A_READ = 500
ROOM_FOR_A_NUMBER = 10
"""Characters that a model's name leaves free, for the number that makes it the only one of its name."""


@dataclass(frozen=True, slots=True)
class TrainingForecast:
    """What a training would do."""

    rows: int
    """Rows that are trained on; prompts, for methods that sample."""
    held_out: int
    """Rows that are kept for held-out figures."""
    steps: int
    kept: KeptShares | None
    """What the mask keeps of the responses; None without stored rewards to know it from."""
    memory: dict[str, int]
    """Bytes of one process by what they are for, and `total`."""
    memory_needed: int
    """Bytes that a worker must have."""
    largest_worker_bytes: int | None
    """Memory of the largest live worker; None while none states its own."""
    disk_needed: int
    """Bytes of checkpoints and model."""
    rule: SegmentationRule | None
    """The rule that makes the mask; None where nothing is masked."""
    reason: str
    """Why it is this rule; '' where nothing is masked."""
    warnings: list[str]
    resolved: TrainingRequest
    """The request with nothing left open."""


def submit(session: Session, settings: Settings, body: TrainingBody) -> Run:
    """A queued run. Everything that can be wrong with the request is said now: NotFound (data set), Invalid
    (with the field), RequestError, ModelError, Forbidden, StorageFull."""
    plan = make_plan(session, settings, body)
    plan.check_room()
    asked = plan.asked
    name = (
        clean_name(body.name, "A training", ", as the model that it makes takes it")
        if body.name is not None
        else _made_name(plan)
    )
    record = {**asked.record(), "allow_code": settings.allow_code}
    day = plan.resolved.data.template_date
    assert day is not None, "a resolved request states the date of its templates"
    record["data"]["template_date"] = day.isoformat()
    run = jobs.submit(session, kind=TRAINING, name=name, request=record, dataset_id=asked.dataset.id)
    run.request = {**run.request, "folder": str(folder_of(settings, run.id))}
    run.cloned_from = body.cloned_from
    run.job.total, run.job.unit = plan.steps, "steps"
    jobs.remark(session, run.job, "warning", plan.remarks)
    session.flush()
    return run


def preview(session: Session, settings: Settings, body: TrainingBody) -> TrainingForecast:
    """What the training would do, without queueing it; nothing is written, nor any model registered.

    Raises as `submit`, but for a training that finds no room: that is said among the warnings.
    """
    nested = session.begin_nested()
    try:
        return preview_of(session, make_plan(session, settings, body))
    finally:
        nested.rollback()


def preview_of(session: Session, plan: Plan) -> TrainingForecast:
    """What is shown of a plan."""
    run, source, rule = plan.asked.scoring_run, plan.asked.source, plan.resolved.supervision.rule
    kept = None
    if run is not None and source is not None and rule is not None:
        kept = kept_of(session, run, source, rule)
    return TrainingForecast(
        rows=plan.split.trained,
        held_out=plan.split.held_out,
        steps=plan.steps,
        kept=kept,
        memory=memory_parts(plan.memory),
        memory_needed=plan.memory_needed,
        largest_worker_bytes=plan.largest_worker_bytes,
        disk_needed=plan.disk_needed,
        rule=rule,
        reason=plan.reason,
        warnings=[
            *(trouble.detail for trouble in plan.troubles()),
            *plan.warnings,
            *(kept.figures.warnings() if kept is not None else []),
        ],
        resolved=plan.resolved,
    )


def clone(session: Session, run: Run) -> Clone:
    """The body that asks for the same training once more."""
    return Clone("trainings", body_of(session, run))


def prepare(session: Session, run: Run, scratch: Path) -> dict[str, Any]:
    """The request of the job's process; writes rows, stored rewards and task suites into `scratch`.

    Raises Conflict where something that the run names was deleted since.
    """
    folder = Path(run.request["folder"])
    if run.job.attempt == 1:
        aside = begin_empty(folder)
        if aside is not None:
            line = f"Files lay where this run begins, of none that is known; they are in {aside} now."
            jobs.log(session, run.job.id, run.job.attempt, "warning", [line])
    rows = scratch / "rows.jsonl"
    with atomic_file(rows) as file:
        for row in _rows(session, run.request):
            file.write(json_line(row))
    rewards, statistics = _rewards(session, run.request, scratch)
    return {
        "request": training_request(run.request).model_dump(mode="json"),
        "rows": str(rows),
        "rewards": rewards,
        "statistics": statistics,
        "made": _made(session, run.request),
        "suites": write_suites(session, run.request["suites"], scratch),
        "allow_code": run.request["allow_code"],
        "folder": str(folder),
        "origin": {
            "run": run.id,
            "name": run.name,
            "dataset": run.request["dataset_name"],
            "data_hash": run.request["data_hash"],
        },
    }


def store(session: Session, run: Run, attempt: int, chunk: TrainingReport) -> None:
    """Stores what the job reports: where it begins, points of curves, a checkpoint.

    Raises LostJob if the attempt does not hold the job, ValueError for a chunk that leaves a hole.
    """
    match chunk:
        case TrainingBegins():
            jobs.begins_at(session, run.job.id, attempt, chunk.step)
            metrics.truncate(session, run.id, chunk.step)
            checkpoints.truncate(session, run.id, chunk.step)
            run.request = {**run.request, "settled": dict(chunk.resolved)}
        case MetricPoints():
            begun = run.job.resume_from
            if chunk.start != begun:
                raise ValueError(
                    f"Points of the updates {begun} to {chunk.start} of run {run.id} are missing."
                )
            jobs.begins_at(session, run.job.id, attempt, chunk.end)
            metrics.store(session, run.id, chunk.points)
        case CheckpointSaved():
            jobs.got_further(session, run.job.id, attempt)
            checkpoints.store(session, run.id, chunk)
    session.flush()


def finish(session: Session, run: Run, result: dict[str, Any]) -> dict[str, Any]:
    """Registers the model that was trained; what the run keeps: {..., "model_id", "model_name"}.

    Says the same when it is repeated, so that a worker that died in the middle may be followed by another.
    """
    models.hold_names(session)
    reference = ModelReference(path=str(Path(result["model"]).resolve()))
    stem = run.name[: MAX_NAME_CHARACTERS - ROOM_FOR_A_NUMBER]
    model = models.add(session, reference, name=models.free_name(session, stem), origin=_origin(run))
    return {**result, "model_id": model.id, "model_name": model.name}


# ------------------------------------------------------------------------------------------- for the job


def _rows(session: Session, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of all data sets in their order; a key that was there before gets its data set's name."""
    named = [(request["dataset_id"], request["dataset_name"])]
    named += [(extra["id"], extra["name"]) for extra in request["extra_datasets"]]
    keys: set[str] = set()
    for dataset_id, name in named:
        if session.get(Dataset, dataset_id) is None:
            raise Conflict(
                f"The data set `{name}` was deleted; bring it in again and submit a new run.",
                code="dataset_gone",
            )
        for row in canonical_rows(session, dataset_id):
            if row["id"] in keys:
                spare = (key for key in models.numbered(f"{name}/{row['id']}") if key not in keys)
                row["id"] = next(spare)
            keys.add(row["id"])
            yield row


def _rewards(
    session: Session, request: Mapping[str, Any], scratch: Path
) -> tuple[str | None, dict[str, Any] | None]:
    """The stored rewards of the source that makes the masks, as a file, and its statistics; None without."""
    scored = request["scoring_run"]
    if scored is None:
        return None, None
    source, run_id = scored["source"], scored["id"]
    known = session.get(SourceStatistics, (run_id, source))
    if known is None:
        raise Conflict(
            f"The scoring run `{scored['name']}` was deleted; score the data again and submit a new run.",
            code="scoring_run_gone",
        )
    path = scratch / "maps.parquet"
    after: tuple[int, str] | None = None
    with MapWriter(path, [source]) as writer:
        while found := read_maps(session, run_id, after=after, limit=MAPS_A_READ):
            for view in found:
                if source in view.map.rewards:
                    only = {source: view.map.rewards[source]}
                    writer.add(replace(view.map, rewards=only), {}, view.text)
            after = found[-1].pair_id, found[-1].map.side
    return str(path), {source: known.sketch}


def _made(session: Session, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The rule that was made of the stored rewards, with its reason; None without any."""
    scored = request["scoring_run"]
    run = None if scored is None else session.get(Run, scored["id"])
    if run is None:
        return None
    made = made_by(session, run, scored["source"])
    return {"rule": made.rule.model_dump(mode="json"), "reason": made.reason}


# --------------------------------------------------------------------------------------------- names


def _origin(run: Run) -> dict[str, Any]:
    """Where a trained model comes from: also what it learned from, which outlives the run."""
    return {
        "kind": "training",
        "run": run.id,
        "method": run.request["method"]["name"],
        "data": [run.request["data_hash"], *(extra["data_hash"] for extra in run.request["extra_datasets"])],
        "part": run.request["data"]["part"],
    }


def _made_name(plan: Plan) -> str:
    body = plan.asked.body
    stem = f"{plan.asked.dataset.name}: {body.method.name}, {body.supervision.density}"
    return stem[:MAX_NAME_CHARACTERS]


def trained_by(model: Model) -> int | None:
    """The run that made the model; None where none of ours did."""
    run_id = model.origin.get("run") if model.origin.get("kind") == "training" else None
    return None if run_id is None else int(run_id)


RUN_KINDS.register(
    RunKind(
        name=TRAINING,
        word="training",
        job="train",
        prepare=prepare,
        store=store,
        finish=finish,
        clone=clone,
        has_curves=True,
        has_checkpoints=True,
    )
)
