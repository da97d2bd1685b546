"""Questions that go across responses: the most negative segments of a whole run."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from rewardscope.app.services.pages import DEFAULT_LIMIT, Page
from rewardscope.engine.types import Side


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """A stored segment, with the words that it covers."""

    pair_id: int
    pair_key: str
    side: Side
    start: int
    """First token."""
    end: int
    """Token after the last one."""
    polarity: int
    reward: float | None
    kept: bool
    disputed: bool
    char_start: int
    """First code point of the response that it covers."""
    char_end: int
    text: str


def worst(
    session: Session,
    run_id: int,
    source: str | None = None,
    *,
    side: Side | None = None,
    polarity: int | None = None,
    kept: bool | None = None,
    highest: bool = False,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[SegmentRow]:
    """Segments of a run by reward, lowest first (`highest`: highest first). Raises NotFound (run), Invalid
    (source)."""
    raise NotImplementedError
