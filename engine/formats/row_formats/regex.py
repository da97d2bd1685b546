"""Questions whose answer holds a pattern."""

from __future__ import annotations

from typing import Any

from engine.formats.questions import ANSWERS, first_of, question_of, task_of
from engine.formats.registry import ROW_FORMATS, RowFormat
from engine.tasks import Task


def _read(row: dict[str, Any], key: str) -> Task:
    pattern = row.get("pattern")
    if pattern is None:
        pattern = first_of(row, ANSWERS)[1]
    return task_of(row, key, question_of(row, {"kind": "regex", "pattern": pattern}))


ROW_FORMATS.register(
    RowFormat(
        name="regex",
        of="tasks",
        description="A question, and `pattern`, a regular expression.",
        matches=lambda row: row.get("pattern") is not None,
        read=_read,
    )
)
