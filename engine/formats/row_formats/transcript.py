"""Transcripts of hh-rlhf, prompt and response in one text: `\\n\\nHuman: ...\\n\\nAssistant: ...`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.formats.pairs import pair_of
from engine.formats.registry import ROW_FORMATS, RowFormat, UnreadField
from engine.types import PreferencePair

_TURN = "\n\nAssistant:"
_HUMAN = "\n\nHuman:"


def _matches(row: Mapping[str, Any]) -> bool:
    texts = list(_sides(row).values())
    if row.get("prompt") is not None or not texts or not all(isinstance(text, str) for text in texts):
        return False
    return all(_TURN in text for text in texts) or any(text.startswith(_HUMAN) for text in texts)


def _read(row: dict[str, Any], key: str) -> PreferencePair:
    sides = _sides(row)
    ends = {side: _prompt_end(text, side) for side, text in sides.items()}
    if len({text[: ends[side]] for side, text in sides.items()}) > 1:
        raise UnreadField(
            "rejected",
            "differs from `chosen` before the last turn; a pair is two answers to one conversation.",
        )
    prompt = next(text[: ends[side]] for side, text in sides.items())
    answers = {side: text[ends[side] :] for side, text in sides.items()}
    return pair_of(row, key, prompt, answers.get("chosen"), answers.get("rejected"))


def _prompt_end(text: str, side: str) -> int:
    """Where the last turn begins, which is the assistant's. Raises UnreadField where it is not."""
    start = text.rfind(_TURN)
    if start < 0 or text.rfind(_HUMAN) > start:
        raise UnreadField(side, "ends with the human's turn; a response is a last turn of the assistant.")
    return start + len(_TURN)


def _sides(row: Mapping[str, Any]) -> dict[str, str]:
    return {side: row[side] for side in ("chosen", "rejected") if row.get(side) is not None}


ROW_FORMATS.register(
    RowFormat(
        name="transcript",
        of="pairs",
        description="`chosen` and `rejected` as transcripts of hh-rlhf, which are cut at their last turn.",
        columns=("chosen", "rejected"),
        matches=_matches,
        read=_read,
    )
)
