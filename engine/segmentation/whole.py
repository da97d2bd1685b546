"""The whole response as one segment that always agrees: sample-wise supervision."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from engine.segmentation.rows import Rows


def cuts(rows: Rows) -> Bool[np.ndarray, " tokens"]:
    """Cuts at the rows' first tokens."""
    return rows.row_cuts()
