"""What rows of public task suites have in common: a question, an answer, a category, a key.

Public questions become the plain text `Question: ...\\nAnswer:`. Knows what checkers are, not how they check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.formats.conversations import MEDIA, NOT_GIVEN
from engine.formats.json_text import parse_json
from engine.formats.registry import UnreadField
from engine.tasks import Task

QUESTIONS = ("prompt", "question", "problem", "query", "ctx", "instruction", "input")
ANSWERS = ("answer", "answers", "target", "answerKey", "label", "expected", "correct")
_CATEGORIES = ("category", "subject", "topic", "level")
_KEYS = ("key", "id", "task_id", "ind")
_COMMON = ("prefix", "stop", "kept", "max_new_tokens")
_NOT_ASKED = ("system", "tools", "tool_calls", *NOT_GIVEN, *MEDIA)
_NEXT_QUESTION = ["\nQuestion:", "\n\n\n"]


def task_of(row: Mapping[str, Any], key: str, fields: Mapping[str, Any]) -> Task:
    """The task of these fields, but for what the row says itself. Raises ValidationError; UnreadField for a
    column that the policy would have to be given and is not."""
    for name in _NOT_ASKED:
        if row.get(name) not in (None, "", [], {}):
            raise UnreadField(name, "is not given to the policy of a task; write it into `prompt`.")
    said = {name: row[name] for name in _COMMON if row.get(name) is not None}
    return Task.model_validate({**fields, **said, "key": key})


def question_of(
    row: Mapping[str, Any], checker: Mapping[str, Any], *, framed: bool = False
) -> dict[str, Any]:
    """What every public shape has: the question, framed for a model that merely goes on, a checker and a
    category. Raises UnreadField."""
    name, question = first_of(row, QUESTIONS)
    if isinstance(question, str) and name == "prompt" and question.startswith("[{"):
        question = from_cell(question, name)
    found = {"prompt": question, "checker": checker, "category": category_of(row)}
    if framed and isinstance(question, str):
        found |= {"prompt": f"Question: {question.strip()}\nAnswer:", "stop": _NEXT_QUESTION}
    return found


def task_key(row: Mapping[str, Any], number: str) -> str:
    """What the row names itself by, else `number`. Raises UnreadField."""
    name, value = first_of(row, _KEYS, required=False)
    if value is None:
        return number
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value):
        raise UnreadField(name, "is no name; write a text or a whole number.")
    return str(value)


def category_of(row: Mapping[str, Any]) -> str:
    """What figures of the row's task are grouped by."""
    value = first_of(row, _CATEGORIES, required=False)[1]
    return "" if value is None else str(value)


def first_of(row: Mapping[str, Any], names: Sequence[str], *, required: bool = True) -> tuple[str, Any]:
    """The first of these columns that the row has, with its value. Raises UnreadField where it has none."""
    for name in names:
        if row.get(name) is not None:
            return name, row[name]
    if required:
        raise UnreadField(names[0], f"is missing; give the row one of {', '.join(names)}.")
    return names[0], None


def texts_of(value: Any, name: str) -> list[str]:
    """A list of texts, or the list of the one. Raises UnreadField."""
    values = value if isinstance(value, (list, tuple)) else [value]
    if not values or not all(isinstance(one, (str, int, float)) for one in values):
        raise UnreadField(name, "is no list of texts; write one.")
    return [str(one) for one in values]


def from_cell(cell: str, name: str) -> Any:
    """A list or an object that stands in a cell as JSON. Raises UnreadField."""
    try:
        return parse_json(cell)
    except ValueError as error:
        raise UnreadField(name, f"must hold JSON, and does not: {error}.") from None
