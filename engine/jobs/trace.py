"""Reads some pairs with every checkpoint of a training; reports the token rewards of all steps at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.formats.rows import row_to_pair
from engine.jobs.protocol import ReportCallable
from engine.language_models import memory_advice
from engine.scoring import OUT_OF_MEMORY
from engine.training.request import TrainingRequest
from engine.training.traces import trace
from engine.types import Progress


def run(request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
    """Reads `request["pairs"]` (canonical rows) with the model of the training `request["request"]`, by the
    `checkpoints` {step: folder} and the `final` model after `steps`; `beta` scales the rewards.

    Reports one `Traced`; returns {"steps"}. Raises DataError, ModelError, ResourceError.
    """
    asked = TrainingRequest.model_validate(request["request"])
    pairs = [row_to_pair(row, line) for line, row in enumerate(request["pairs"], start=1)]
    report(progress=Progress("loading the model", 0, None))
    final = request.get("final")
    with memory_advice(OUT_OF_MEMORY):
        traced = trace(
            pairs,
            asked,
            {int(step): Path(folder) for step, folder in request["checkpoints"].items()},
            None if final is None else Path(final),
            steps=int(request["steps"]),
            beta=float(request["beta"]),
            device=asked.machine.device,
            tick=lambda done, total: report(progress=Progress("reading checkpoints", done, total, "steps")),
        )
    report(chunk=traced)
    return {"steps": traced.steps}
