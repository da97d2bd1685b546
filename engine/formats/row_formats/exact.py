"""Plain questions: the answer is one of those in `answer` or `answers`, as in SQuAD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.formats.questions import ANSWERS, QUESTIONS, first_of, question_of, task_of, texts_of
from engine.formats.registry import ROW_FORMATS, RowFormat
from engine.tasks import Task


def _read(row: dict[str, Any], key: str) -> Task:
    name, value = first_of(row, ANSWERS)
    if isinstance(value, Mapping):  # SQuAD: {"text": [...], "answer_start": [...]}
        value = value.get("text")
    answers = texts_of(value, name)
    checker = {"kind": "exact", "answers": answers, "prefix": bool(row.get("answer_is_prefix", False))}
    return task_of(row, key, question_of(row, checker))


ROW_FORMATS.register(
    RowFormat(
        name="exact",
        of="tasks",
        description="A question, and `answer` or `answers` as text.",
        columns=QUESTIONS,
        matches=lambda row: True,  # Asked last, and says what is missing from a row that nobody can read.
        read=_read,
    )
)
