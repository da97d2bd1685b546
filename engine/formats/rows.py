"""One row as people write it, to a PreferencePair or a Task: by the row format that its columns give away."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Literal, cast

from pydantic import ValidationError

from engine.errors import RowError
from engine.formats.conversations import read_conversations
from engine.formats.pairs import take_key
from engine.formats.questions import task_key
from engine.formats.registry import ROW_FORMATS, RowFormat, UnreadField
from engine.tasks import CHECKERS, Task
from engine.types import PreferencePair

Kind = Literal["pairs", "tasks"]


def row_to_pair(
    row: Mapping[str, Any],
    line: int = 1,
    number: int | None = None,
    *,
    storable: bool = False,
    canonical: bool = False,
) -> PreferencePair:
    """The pair that a row holds. `number` names rows without `id` or `key`; None: `line` does. Rows that are
    known to be `storable` are not searched for text that cannot be stored, and `canonical` ones, which we
    wrote, not for conversations that are text.

    Raises RowError with the line, the field and what to do.
    """
    try:
        if not storable:
            refuse_unstorable_text(row)
        columns = dict(row)
        if not canonical:
            read_conversations(columns)
        key = take_key(columns, str(line if number is None else number))
        return read_pair(columns, key)
    except UnreadField as refusal:
        raise refusal.at(line) from None


def row_to_task(
    row: Mapping[str, Any],
    line: int,
    number: int | None = None,
    *,
    storable: bool = False,
    chat: bool = False,
) -> Task:
    """The task that a row holds, as `row_to_pair`. With `chat`, a prompt in text becomes a message of the
    user. Raises RowError."""
    try:
        if not storable:
            refuse_unstorable_text(row)
        task = _read_task(dict(row), task_key(row, str(line if number is None else number)))
    except UnreadField as refusal:
        raise refusal.at(line) from None
    except ValidationError as error:
        raise _refused(line, error) from None
    if chat and isinstance(task.prompt, str):
        return task.model_copy(update={"prompt": [{"role": "user", "content": task.prompt}]})
    return task


def read_pair(row: dict[str, Any], key: str) -> PreferencePair:
    """The pair of a row whose key is known; takes the row apart. Raises UnreadField."""
    return cast(PreferencePair, _format_of(row, "pairs").read(row, key))


def format_of_row(row: Mapping[str, Any]) -> str:
    """The name of the row format of a pair's row that can be read. Raises UnreadField."""
    columns = dict(row)
    read_conversations(columns)
    take_key(columns, "")
    return _format_of(columns, "pairs").name


def known_columns(of: Kind, names: Collection[str]) -> int:
    """How many of these names are columns of pairs, or of tasks; 0 where none gives such rows away."""
    telling, others = _columns(of)
    told = telling & set(names)
    return len(told) + len(others & set(names)) if told else 0


def _read_task(row: dict[str, Any], key: str) -> Task:
    word = row.get("checker")
    if not isinstance(word, str):
        return cast(Task, _format_of(row, "tasks").read(row, key))
    if word not in CHECKERS:
        raise UnreadField("checker", f"is `{word}`; choose one of {', '.join(CHECKERS)}.")
    return cast(Task, ROW_FORMATS[word].read(row, key))


def _format_of(row: Mapping[str, Any], of: Kind) -> RowFormat:
    return next(one for one in _formats(of) if one.matches(row))


@cache
def _formats(of: Kind) -> tuple[RowFormat, ...]:
    """The row formats of a kind in the order in which they are asked."""
    return tuple(one for one in reversed(list(ROW_FORMATS.values())) if one.of == of)


@cache
def _columns(of: Kind) -> tuple[frozenset[str], frozenset[str]]:
    """The columns that give rows of a kind away, and those that often stand beside them."""
    telling = frozenset(name for one in _formats(of) for name in one.columns)
    return telling, frozenset(name for one in _formats(of) for name in one.beside) - telling


def _refused(line: int, error: ValidationError) -> RowError:
    """The first thing that is wrong with a task, in words."""
    first = error.errors()[0]
    # What pydantic puts into the place of an error, and no row has.
    parts = [str(part) for part in first["loc"] if part not in (*CHECKERS, "str") and "[" not in str(part)]
    place = ".".join(parts) or "task"
    reason = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    return RowError(line, f"`{place}` is refused: {reason[:1].lower() + reason[1:]}; correct it.", place)


def refuse_unstorable_text(value: Any, field: str | None = None) -> None:
    """Refuses NUL and lone surrogates anywhere in a row: no data base and no UTF-8 file can hold them."""
    if isinstance(value, str):
        if "\x00" in value:
            raise UnreadField(field, "contains the character U+0000, which cannot be stored; remove it.")
        if not value.isascii() and not _is_unicode(value):
            raise UnreadField(
                field, "contains half of a surrogate pair or bytes that are not UTF-8; write valid Unicode."
            )
    elif isinstance(value, Mapping):
        for name, item in value.items():
            inside = str(name) if field is None else f"{field}.{name}"
            if isinstance(name, str) and (not _is_unicode(name) or "\x00" in name):
                raise UnreadField(field, "has a column name that cannot be stored; rename it.")
            refuse_unstorable_text(item, inside)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if not isinstance(item, (int, float)):
                refuse_unstorable_text(item, f"{field}[{index}]")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
