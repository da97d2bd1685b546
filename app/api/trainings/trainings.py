"""Trainings: data, a model, a method and a density become a run."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from app.api.parts.common import View, door
from app.api.parts.idempotency import OnceDep
from app.api.runs.runs import RunView, accepted
from app.dependencies import SessionDep, SettingsDep
from app.problems import responses
from app.services.trainings import trainings
from app.services.trainings.trainings import TrainingBody, TrainingForecast


class KeptView(View):
    """Which share of the tokens a mask keeps, told from a sample of the scored pairs."""

    chosen: float | None
    rejected: float | None


class TrainingPreviewView(View):
    """What a training would do."""

    steps: int
    """Updates of the weights."""
    rows: int
    """Rows that are trained on; distinct prompts, for methods that sample responses."""
    held_out: int
    """Rows that are kept for held-out figures."""
    kept: KeptView | None
    """Null where no stored rewards tell it."""
    nothing_kept: int
    """Responses of the sample of which no token is left."""
    sampled_pairs: int
    """Pairs that `kept` and `nothing_kept` were told from."""
    memory: dict[str, int]
    """Bytes of a process: weights, gradients, optimiser, activations, frozen, process, total."""
    memory_needed: int
    """Bytes that a worker must have."""
    largest_worker_bytes: int | None
    """Memory of the largest live worker; null while none states its own."""
    disk_needed: int
    """Bytes of checkpoints and model."""
    rule: dict[str, Any] | None
    """The `SegmentationRule` that makes the mask."""
    warnings: list[str]
    settled: dict[str, Any]
    """The engine's request with nothing left open."""

    @classmethod
    def of(cls, found: TrainingForecast) -> TrainingPreviewView:
        """The view of a preview."""
        kept = found.kept
        return cls(
            steps=found.steps,
            rows=found.rows,
            held_out=found.held_out,
            kept=None if kept is None else KeptView(chosen=kept.chosen, rejected=kept.rejected),
            nothing_kept=0 if kept is None else kept.nothing,
            sampled_pairs=0 if kept is None else kept.pairs,
            memory=found.memory,
            memory_needed=found.memory_needed,
            largest_worker_bytes=found.largest_worker_bytes,
            disk_needed=found.disk_needed,
            rule=None if found.rule is None else found.rule.model_dump(mode="json"),
            warnings=found.warnings,
            settled=found.resolved.model_dump(mode="json"),
        )


router = door("trainings")


@router.post("", status_code=202, response_model=RunView, responses=responses(409, 507))
def submit_training(
    body: TrainingBody, session: SessionDep, settings: SettingsDep, once: OnceDep
) -> JSONResponse:
    """Queues a training. What is wrong with the request is said now, not by the job."""
    return once.answer(
        session,
        body.model_dump_json().encode(),
        lambda: accepted(trainings.submit(session, settings, body)),
    )


@router.post("/preview", responses=responses(507))
def preview_training(body: TrainingBody, session: SessionDep, settings: SettingsDep) -> TrainingPreviewView:
    """What a training would do: rows, steps, memory, what the mask keeps, and warnings. Stores nothing."""
    return TrainingPreviewView.of(trainings.preview(session, settings, body))
