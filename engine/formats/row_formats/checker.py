"""Tasks as suites store them: every column is a field of a `Task`, and `checker` is an object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.formats.questions import category_of, task_of
from engine.formats.registry import ROW_FORMATS, RowFormat, UnreadField
from engine.tasks import Task


def _read(row: dict[str, Any], key: str) -> Task:
    if "prompt" not in row:
        raise UnreadField("prompt", "is missing; write what the policy is asked.")
    fields = {name: value for name, value in row.items() if name not in ("id", "task_id", "ind")}
    return task_of(row, key, {"category": category_of(row), **fields})


ROW_FORMATS.register(
    RowFormat(
        name="checker",
        of="tasks",
        description="`prompt`, and `checker` as an object with the fields of its kind.",
        matches=lambda row: isinstance(row.get("checker"), Mapping),
        read=_read,
    )
)
