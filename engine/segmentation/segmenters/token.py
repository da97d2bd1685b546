"""Every token a segment: token-wise supervision."""

from __future__ import annotations

from typing import Literal

import numpy as np

from engine.segmentation.rows import Rows
from engine.segmentation.segmenter import SEGMENTERS, Cuts, Segmenter, SegmenterFields


class Token(SegmenterFields):
    """Every token is a segment: token-wise supervision."""

    name: Literal["token"] = "token"


def cuts(rows: Rows, fields: Token) -> Cuts:
    """Cuts everywhere."""
    return np.ones(rows.tokens, dtype=np.bool_)


SEGMENTERS.register(Segmenter(Token, "Token", cuts))
