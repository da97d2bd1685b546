"""A token ends a segment when its distribution was uncertain: H > threshold nats (arXiv 2501.02790)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from engine.errors import RequestError
from engine.segmentation.rows import Rows


def cuts(rows: Rows, threshold: float) -> Bool[np.ndarray, " tokens"]:
    """Cuts after every token with entropy strictly above `threshold`; a missing entropy cuts nothing."""
    if rows.entropies is None:
        raise RequestError("The `entropy` segmenter needs `entropies`, one a token: pass them.")
    found = rows.row_cuts()
    found[1:] |= rows.entropies[:-1] > threshold
    return found
