"""A segmenter in one file: a segment ends behind every few words."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field

from engine.segmentation.characters import cuts_at
from engine.segmentation.rows import Rows
from engine.segmentation.segmenter import SEGMENTERS, Cuts, Segmenter, SegmenterFields


class Words(SegmenterFields):
    """A segment every few words."""

    name: Literal["toy_words"] = "toy_words"
    words: int = Field(1, ge=1, title="Words a segment")
    """Every segment has this many words."""


def cuts(rows: Rows, fields: Words) -> Cuts:
    """Cuts before the token that holds the space before a word."""

    def starts(text: str) -> list[int]:
        return [space.start() for space in re.finditer(r"(?<=\S)\s+(?=\S)", text)][
            fields.words - 1 :: fields.words
        ]

    return cuts_at(rows, starts)


SEGMENTERS.register(Segmenter(Words, "Words", cuts, reads=("text", "offsets")))
