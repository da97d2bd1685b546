"""Segments of one line each: step-wise supervision.

A segment ends with the token that contains a line break; blank lines belong to the step before them.
"""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Bool

from engine.segmentation.characters import cuts_at
from engine.segmentation.rows import Rows

# From the first line break to the last one with nothing but space between: indentation stays with its line.
BREAKS = re.compile(r"[\r\n](?:\s*[\r\n])?")


def cuts(rows: Rows) -> Bool[np.ndarray, " tokens"]:
    """Cuts before the first token that starts behind a line break."""
    return cuts_at(rows, "step", line_starts)


def line_starts(text: str) -> list[int]:
    """The characters at which a line starts, but for the first line."""
    return [found.end() for found in BREAKS.finditer(text)]
