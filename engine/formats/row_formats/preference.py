"""A preference: `prompt`, `chosen` and `rejected` as text; the prompt may be messages."""

from __future__ import annotations

from typing import Any

from engine.formats.conversations import prompt_of, sides_of
from engine.formats.pairs import pair_of
from engine.formats.registry import ROW_FORMATS, RowFormat, UnreadField
from engine.types import PreferencePair


def _read(row: dict[str, Any], key: str) -> PreferencePair:
    sides = sides_of(row)
    if sides["chosen"] is None and sides["rejected"] is None:
        raise UnreadField(
            None, "has no response; give it `chosen` and `rejected`, one of them, or `response` with `label`."
        )
    prompt = prompt_of(row.get("prompt"))
    if prompt is None:
        raise UnreadField("prompt", "is missing; add it (an empty string is allowed).")
    if prompt == ():
        raise UnreadField("prompt", "is an empty conversation; give it at least one message.")
    return pair_of(row, key, prompt, **sides)


ROW_FORMATS.register(
    RowFormat(
        name="preference",
        of="pairs",
        description="`prompt`, `chosen` and `rejected` as text; one of the sides may be null.",
        columns=("chosen", "rejected"),
        beside=("prompt",),
        matches=lambda row: True,  # Asked last, and knows what to say of a row that nobody can read.
        read=_read,
    )
)
