"""A segment every n tokens, counted from the start of the response."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from engine.segmentation.rows import Rows
from engine.segmentation.segmenter import SEGMENTERS, Cuts, Segmenter, SegmenterFields


class Fixed(SegmenterFields):
    """A segment every `length` tokens."""

    name: Literal["fixed"] = "fixed"
    length: int = Field(4, ge=1, title="Tokens a segment")
    """Every segment has this many tokens; the last one may be shorter."""


def cuts(rows: Rows, fields: Fixed) -> Cuts:
    """Cuts where the position is a multiple of the length."""
    positions = np.arange(rows.tokens) - np.repeat(rows.starts[:-1], np.diff(rows.starts))
    return np.asarray(positions % fields.length == 0)


SEGMENTERS.register(Segmenter(Fixed, "Fixed length", cuts))
