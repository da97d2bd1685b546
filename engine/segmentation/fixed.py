"""A segment every n tokens, counted from the start of the response."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from engine.segmentation.rows import Rows


def cuts(rows: Rows, length: int) -> Bool[np.ndarray, " tokens"]:
    """Cuts where the position is a multiple of `length`; the last segment may be shorter."""
    positions = np.arange(rows.tokens) - np.repeat(rows.starts[:-1], np.diff(rows.starts))
    return np.asarray(positions % length == 0)
