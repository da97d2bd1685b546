"""A single response: `response`, or TRL's `completion`, chosen unless `label` is false."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from engine.formats.annotations import ANNOTATIONS
from engine.formats.chosen_by import RESPONSES, is_single, refusal_of, scored_columns
from engine.formats.registry import ROW_FORMATS, RowFormat, UnreadField
from engine.formats.rows import read_pair
from engine.types import PreferencePair


def _read(row: dict[str, Any], key: str) -> PreferencePair:
    """Turns the columns of the response into those of the side that its label says, and reads these."""
    scores = scored_columns(row)
    if scores and "label" not in row:
        raise UnreadField(scores[0], refusal_of(scores[0]))
    side = "chosen" if _label(row.pop("label", True)) else "rejected"
    row[side] = row.pop(next(name for name in RESPONSES if row.get(name) is not None))
    for name in ANNOTATIONS:
        if name in row:
            row[f"{side}_{name}"] = row.pop(name)
    return read_pair(row, key)


def _label(value: Any) -> bool:
    if value is None:
        raise UnreadField(
            "label", "is null, which says neither chosen nor rejected; write true or false, or leave it out."
        )
    if isinstance(value, bool) or (isinstance(value, Integral) and value in (0, 1)):
        return bool(value)
    raise UnreadField("label", "must be true (a chosen response) or false (a rejected one).")


ROW_FORMATS.register(
    RowFormat(
        name="response",
        of="pairs",
        description=(
            "`prompt` and a single `response` or `completion`, chosen unless `label` is false; a scored one "
            "(`reward`, `score`, ...) needs a `label` or the rule `chosen_by`."
        ),
        columns=RESPONSES,
        beside=("prompt",),
        matches=is_single,
        read=_read,
    )
)
