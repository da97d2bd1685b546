"""The whole response as one segment that always agrees: sample-wise supervision."""

from __future__ import annotations

from typing import Literal

from engine.segmentation.rows import Rows
from engine.segmentation.segmenter import SEGMENTERS, Cuts, Segmenter, SegmenterFields


class Whole(SegmenterFields):
    """The response as one segment that always agrees with the preference: sample-wise supervision."""

    name: Literal["whole"] = "whole"


def cuts(rows: Rows, fields: Whole) -> Cuts:
    """Cuts at the rows' first tokens."""
    return rows.row_cuts()


SEGMENTERS.register(Segmenter(Whole, "Whole response", cuts, signal="preference"))
