"""The stateless question: these token rewards, this rule; where are the pivots, what does the mask keep?"""

from __future__ import annotations

from starlette.responses import JSONResponse

from app.api.parts.common import View, door
from app.services.scorings import scores
from engine.rules import SegmentationRequest


class SegmentAnswer(View):
    """Tokens [start, end)."""

    start: int
    end: int
    polarity: int
    reward: float | None
    """Null when every token reward of the segment is missing."""


class SegmentationAnswer(View):
    """One response, cut. Lists have one entry a token, but `candidates`, `pivots` and `segments`."""

    signal: list[int]
    candidates: list[int]
    pivots: list[int]
    segments: list[SegmentAnswer]
    mask: list[bool]
    """True where a token counts."""
    weights: list[float] | None = None
    """The soft weights; only where the rule has a `soft_tau`."""


router = door("segmentations")


@router.post("", response_model=SegmentationAnswer)
def cut(body: SegmentationRequest) -> JSONResponse:
    """Cuts one response and masks it. Stores nothing and needs no model."""
    return JSONResponse(scores.segment(body))
