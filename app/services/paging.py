"""A page of a list, and the opaque cursor that says where the next one begins.

Cursors are keysets: they carry the values that the last row was sorted by, so that a page deep in a list
costs what the first one costs, and rows that come or go meanwhile shift nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.errors import Invalid, Problem

Item = TypeVar("Item")
Key = int | float | str | None
DEFAULT_LIMIT = 50
MAX_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some rows of a list, in order."""

    items: list[Item]
    next_cursor: str | None
    """Where the next page begins; None at the end of the list."""
    total: int | None = None
    """How many rows the whole list has; None where counting would cost more than it tells."""


def encode_cursor(*keys: Key) -> str:
    """The values that the last row of a page was sorted by, as URL-safe text."""
    return base64.urlsafe_b64encode(json.dumps(keys).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, kinds: Sequence[type | tuple[type, ...]]) -> list[Any]:
    """The values of a cursor, one of each of `kinds`. Raises Invalid for anything that no page gave out."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        keys = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        raise bad_cursor() from None
    if not isinstance(keys, list) or len(keys) != len(kinds):
        raise bad_cursor()
    for key, kind in zip(keys, kinds, strict=True):
        if isinstance(key, bool) or not isinstance(key, kind):
            raise bad_cursor()
        if isinstance(key, int) and not -(2**63) <= key < 2**63:
            raise bad_cursor()
    return keys


def page_limit(limit: int) -> int:
    """`limit` itself, if it lies between 1 and 500. Raises Invalid otherwise."""
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid(
            f"`limit` is {limit}; ask for 1 to {MAX_LIMIT} rows a page.",
            errors=[Problem(("query", "limit"), f"must lie between 1 and {MAX_LIMIT}")],
        )
    return limit


def bad_cursor() -> Invalid:
    """What is raised for a cursor that no page gave out."""
    return Invalid(
        "The cursor is not one that this list gave out with the same sort; start again without a cursor.",
        code="bad_cursor",
        errors=[Problem(("query", "cursor"), "is not a cursor of this list")],
    )
