"""JSON to the letter, and what is said of text that is none; knows no columns."""

from __future__ import annotations

import json
import re
from typing import Any

from engine.errors import RowError
from engine.formats.streams import Line, row_too_large

_UNSTORABLE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
"""Escapes of NUL and of surrogates, which JSON in UTF-8 can hold in no other way."""


def is_storable(line: bytes) -> bool:
    """Whether no text in a line of JSON can be one that no data base holds."""
    return _UNSTORABLE.search(line) is None


def parse_line(line: Line) -> dict[str, Any] | RowError:
    """The object that a line holds, or why it holds none."""
    if line.content is None:
        return row_too_large(line.number)
    try:
        row = parse_json(line.content.decode())
    except UnicodeDecodeError:
        return RowError(line.number, "The line is not UTF-8; save the file as UTF-8.")
    except json.JSONDecodeError as error:
        if not line.ended:
            return RowError(
                line.number,
                "The last line stops in the middle: the file looks cut off. Send the whole file again.",
            )
        what = error.msg.removesuffix(" at")
        return RowError(
            line.number, f"The line is not JSON ({what} at column {error.colno}); write one object a line."
        )
    except ValueError as error:
        return RowError(line.number, f"The line cannot be read: it {error}.")
    return row if isinstance(row, dict) else no_object(line.number)


def parse_json(text: str) -> Any:
    """A JSON value. Raises ValueError with a reason, also for NaN and Infinity, which JSON does not have."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of these members. Raises ValueError where a name stands twice: one would be lost."""
    made = dict(items)
    if len(made) < len(items):
        names = [name for name, _ in items]
        raise ValueError(named_twice(next(name for name in names if names.count(name) > 1)))
    return made


def named_twice(name: str) -> str:
    """What a row does that has an object with this name twice."""
    return f"names `{name}` twice in one object; keep one of them"


def _refuse_constant(name: str) -> float:
    raise ValueError(no_constant(name))


def no_constant(name: str) -> str:
    """What a row does that has NaN or Infinity."""
    return f"contains {name}, which is not JSON; use null where a value is missing"


def no_object(line: int) -> RowError:
    """The refusal of a row that is another JSON value."""
    return RowError(line, 'The row is no object; write {"prompt": ..., "chosen": ..., "rejected": ...}.')
