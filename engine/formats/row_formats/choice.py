"""Questions with options, as in MMLU, ARC and HellaSwag: the likeliest of them is the answer.

The right one is an index, a letter or its text; options may stand in the columns `A`, `B`, `C` and so on.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

from engine.formats.questions import ANSWERS, first_of, from_cell, question_of, task_of, texts_of
from engine.formats.registry import ROW_FORMATS, RowFormat, UnreadField
from engine.tasks import Task

_OPTIONS = ("choices", "options", "endings")
_OPTION_COLUMNS = string.ascii_uppercase[:10]


def _matches(row: Mapping[str, Any]) -> bool:
    return any(row.get(name) is not None for name in _OPTIONS) or bool(_in_columns(row))


def _read(row: dict[str, Any], key: str) -> Task:
    name = next((name for name in _OPTIONS if row.get(name) is not None), "choices")
    given, labels = row.get(name), None
    if given is None:
        labels = _in_columns(row)
        given = [row[label] for label in labels]
    elif isinstance(given, str):
        given = from_cell(given, name)
    if isinstance(given, Mapping):  # ARC: {"text": [...], "label": ["A", ...]}
        labels, given = given.get("label"), given.get("text")
    options = texts_of(given, name)
    framed = "prompt" not in row and "ctx" not in row
    fields = question_of(row, {}, framed=framed)
    # After plain text an option begins with a space, as a word of a sentence does.
    spaced = isinstance(fields["prompt"], str) and (framed or "ctx" in row)
    shown = [" " + option.lstrip() for option in options] if spaced else options
    right = _right(row, options, [str(one) for one in labels or _OPTION_COLUMNS])
    return task_of(row, key, fields | {"checker": {"kind": "choice", "options": shown, "right": right}})


def _right(row: Mapping[str, Any], options: Sequence[str], labels: Sequence[str]) -> int:
    """The place of the right option: an index from 0, a label, or the option's own text."""
    name, value = first_of(row, ("right", "answer_index", "gold", *ANSWERS))
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 1:
        value = value[0]
    said = str(value).strip()
    if said in labels[: len(options)]:
        return list(labels).index(said)
    if said in options:
        return list(options).index(said)
    if not isinstance(value, bool) and said.isdecimal() and int(said) < len(options):
        return int(said)
    raise UnreadField(
        name,
        f"is `{said[:40]}`, which names none of the {len(options)} options; write its index from 0, its "
        "letter, or its text.",
    )


def _in_columns(row: Mapping[str, Any]) -> list[str]:
    """The letters whose columns hold options; none unless A and B do."""
    there = [letter for letter in _OPTION_COLUMNS if row.get(letter) is not None]
    return there if there[:2] == ["A", "B"] else []


ROW_FORMATS.register(
    RowFormat(
        name="choice",
        of="tasks",
        description=(
            "A question, and `choices`, `options`, `endings` or `A`, `B`, ... (MMLU, ARC, HellaSwag); "
            "the right one as an index from 0, a letter or its text."
        ),
        matches=_matches,
        read=_read,
    )
)
