"""Transcripts of hh-rlhf, prompt and response in one text: `\\n\\nHuman: ...\\n\\nAssistant: ...`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.formats.pairs import pair_of
from engine.formats.registry import ROW_FORMATS, RowFormat
from engine.types import PreferencePair

_TURN = "\n\nAssistant:"


def _matches(row: Mapping[str, Any]) -> bool:
    return row.get("prompt") is None and _prompt_end(row) > 0


def _read(row: dict[str, Any], key: str) -> PreferencePair:
    end = _prompt_end(row)
    sides = _sides(row)
    prompt = next(iter(sides.values()))[:end]
    answers = {side: text[end:] for side, text in sides.items()}
    return pair_of(row, key, prompt, answers.get("chosen"), answers.get("rejected"))


def _prompt_end(row: Mapping[str, Any]) -> int:
    """Where the last turn begins; 0 unless both sides agree up to there: a guess at a shared prefix could cut
    into a response."""
    texts = list(_sides(row).values())
    if not texts or not all(isinstance(text, str) for text in texts):
        return 0
    end = texts[0].rfind(_TURN) + len(_TURN)
    agree = all(text.rfind(_TURN) + len(_TURN) == end and text[:end] == texts[0][:end] for text in texts)
    return end if end >= len(_TURN) and agree else 0


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
