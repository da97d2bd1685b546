"""Why a pair contradicts itself: the segments of its sides that speak loudest against the preference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from sqlalchemy import case, func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app.db.maps import unpack_offsets
from app.db.tables import Pair, StoredMap, StoredSegment
from app.services.scorings.sources import chosen_source, scoring_run
from engine.types import SIDES, SIGN, Side


@dataclass(frozen=True, slots=True)
class Reason:
    """The segment that speaks loudest against the preference of its pair."""

    side: Side
    start: int
    """First token."""
    end: int
    """Token after the last one."""
    char_start: int
    char_end: int
    """Code points [char_start, char_end) of the response."""
    reward: float
    """Mean of its tokens' rewards, from the baseline and in units of the scale."""
    text: str
    loudness: float
    """|reward|, its tokens counted."""
    also: Reason | None = None
    """The loudest of the other side, if any of that contradicts too; it has none of its own."""


def reasons(session: Session, run_id: int, source: str | None, found: Sequence[Pair]) -> dict[int, Reason]:
    """Id of pair -> why it contradicts, for those of `found` that do: a bad segment of the chosen response or
    a good one of the rejected. The loudest is that with the most |reward|, its tokens counted.

    Raises NotFound (run), Invalid (source).
    """
    if not found:
        return {}
    name = chosen_source(scoring_run(session, run_id), source)
    loudness = func.abs(StoredSegment.reward) * (StoredSegment.end - StoredSegment.start)
    sign = case({side: SIGN[side] for side in SIDES}, value=StoredMap.side)
    query = (
        select(StoredSegment, StoredMap.offsets, StoredMap.tokens)
        .join(StoredMap, StoredMap.id == StoredSegment.map_id)
        .where(
            StoredMap.run_id == run_id,
            StoredMap.pair_id.in_([pair.id for pair in found]),
            StoredSegment.source == name,
            StoredSegment.reward.is_not(None),
            StoredSegment.polarity * sign < 0,
        )
        .ext(distinct_on(StoredMap.pair_id, StoredMap.side))
        .order_by(StoredMap.pair_id, StoredMap.side, loudness.desc(), StoredSegment.start)
    )
    pairs = {pair.id: pair for pair in found}
    told: dict[int, Reason] = {}
    for segment, offsets, tokens in session.execute(query):
        reason = _reason(segment, offsets, tokens, pairs[segment.pair_id])
        other = told.get(segment.pair_id)
        if other is not None and other.loudness >= reason.loudness:
            told[segment.pair_id] = replace(other, also=reason)
        else:
            told[segment.pair_id] = replace(reason, also=other)
    return told


def _reason(segment: StoredSegment, offsets: bytes, tokens: int, pair: Pair) -> Reason:
    covered = unpack_offsets(offsets, tokens)[segment.start : segment.end]
    char_start, char_end = int(covered[0, 0]), int(covered[-1, 1])
    assert segment.reward is not None, "the query has asked for segments with a reward"
    return Reason(
        side=cast(Side, segment.side),
        start=segment.start,
        end=segment.end,
        char_start=char_start,
        char_end=char_end,
        reward=segment.reward,
        text=(getattr(pair, segment.side) or "")[char_start:char_end],
        loudness=abs(segment.reward) * (segment.end - segment.start),
    )
