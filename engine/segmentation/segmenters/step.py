"""Segments of one line each: step-wise supervision of texts whose steps are lines.

A segment ends with the token that contains a line break; blank lines belong to the line before them. The
density `step` cuts at punctuation too, as `clause` does.
"""

from __future__ import annotations

import re
from typing import Literal

from engine.segmentation.characters import cuts_at
from engine.segmentation.rows import Rows
from engine.segmentation.segmenter import SEGMENTERS, Cuts, Segmenter, SegmenterFields

# From the first line break to the last one with nothing but space between: indentation stays with its line.
BREAKS = re.compile(r"[\r\n](?:\s*[\r\n])?")


class Step(SegmenterFields):
    """A segment a line: it ends with the token that contains a line break."""

    name: Literal["step"] = "step"


def cuts(rows: Rows, fields: Step) -> Cuts:
    """Cuts before the first token that starts behind a line break."""
    return cuts_at(rows, line_starts)


def line_starts(text: str) -> list[int]:
    """The characters at which a line starts, but for the first line."""
    return [found.end() for found in BREAKS.finditer(text)]


SEGMENTERS.register(Segmenter(Step, "Line (line breaks)", cuts, reads=("text", "offsets")))
