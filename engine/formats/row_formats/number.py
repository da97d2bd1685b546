"""Questions whose answer is a number, as in GSM8K: a number in JSON, or what follows `####`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.formats.questions import ANSWERS, first_of, question_of, task_of
from engine.formats.registry import ROW_FORMATS, RowFormat, UnreadField
from engine.tasks import Task


def _matches(row: Mapping[str, Any]) -> bool:
    value = first_of(row, ANSWERS, required=False)[1]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number or (isinstance(value, str) and "####" in value)


def _read(row: dict[str, Any], key: str) -> Task:
    name, value = first_of(row, ("value", *ANSWERS))
    worked = isinstance(value, str) and "####" in value
    said = str(value).rpartition("####")[2].strip() if worked else str(value).strip()
    try:
        number = float(said.replace(",", "").replace("$", "").replace("\u2212", "-"))
    except ValueError:
        raise UnreadField(
            name, f"is `{said[:40]}`, which is no number; write it with digits alone."
        ) from None
    checker: dict[str, Any] = {"kind": "number", "value": number}
    if row.get("tolerance") is not None:
        checker["tolerance"] = row["tolerance"]
    fields = question_of(row, checker, framed=worked and "prompt" not in row)
    return task_of(row, key, {"max_new_tokens": 400, **fields} if worked else fields)


ROW_FORMATS.register(
    RowFormat(
        name="number",
        of="tasks",
        description="A question, and `answer` as a number, or as GSM8K works it out (`#### 42`).",
        matches=_matches,
        read=_read,
    )
)
