"""Loads a model to see what would be read of it, and how it reads some conversations."""

from __future__ import annotations

from datetime import date
from typing import Any

from engine.formats.rows import row_to_pair
from engine.inspection.models import inspect_loaded, load_any, readings
from engine.jobs.protocol import ReportCallable
from engine.language_models import memory_advice
from engine.scoring import OUT_OF_MEMORY
from engine.types import ModelReference, Progress


def run(request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
    """Reads `request["pairs"]` (canonical rows, often none) with the tokenizer of `request["model"]`, on the
    day `request["template_date"]` where the template asks for one.

    Returns {"model": what `ModelSeen.as_row` says, "readings": [...]}. Raises DataError, ModelError (also for
    a reward model that is not read as its own forward reads it), ResourceError.
    """
    day = request.get("template_date")
    report(progress=Progress("loading the model", 0, None))
    with memory_advice(OUT_OF_MEMORY):
        loaded = load_any(ModelReference.model_validate(request["model"]))
        seen = inspect_loaded(loaded)
    pairs = [row_to_pair(row, line) for line, row in enumerate(request["pairs"], start=1)]
    read = [
        one.as_row()
        for pair in pairs
        for one in readings(pair, loaded.tokenizer, date.fromisoformat(day) if day else None)
    ]
    return {"model": seen.as_row(), "readings": read}
