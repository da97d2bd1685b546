"""A row format in one file: a `question` with a `good` and a `bad` answer is a preference pair."""

from __future__ import annotations

from typing import Any

from engine.formats.pairs import pair_of
from engine.formats.registry import ROW_FORMATS, RowFormat
from engine.types import PreferencePair


def read(row: dict[str, Any], key: str) -> PreferencePair:
    """The pair; columns that are not taken out go into its `meta`."""
    return pair_of(row, key, row.pop("question"), row.pop("good"), row.pop("bad"))


ROW_FORMATS.register(
    RowFormat(
        name="toy_answers",
        of="pairs",
        description="`question`, `good` and `bad`, all text.",
        columns=("good", "bad"),
        beside=("question",),
        matches=lambda row: all(isinstance(row.get(name), str) for name in ("question", "good", "bad")),
        read=read,
    )
)
