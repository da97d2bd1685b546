"""Questions that go across responses: the most negative segments of a whole run."""

from __future__ import annotations

from typing import cast

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from app.db.maps import unpack_offsets
from app.db.tables import Pair, StoredMap, StoredSegment
from app.services.paging import DEFAULT_LIMIT, Page, decode_cursor, encode_cursor, page_limit
from app.services.scorings.sources import chosen_source, scoring_run
from engine.types import Side


class SegmentRow(BaseModel):
    """A stored segment, with the words that it covers."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)
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
    """Segments of a run by reward, lowest first (`highest`: highest first), if they have one.

    Raises NotFound (run), Invalid (source, cursor).
    """
    name = chosen_source(scoring_run(session, run_id), source)
    place = tuple_(StoredSegment.reward, StoredSegment.map_id, StoredSegment.start)
    query = (
        select(StoredSegment, StoredMap.offsets, StoredMap.tokens, Pair)
        .join(StoredMap, StoredMap.id == StoredSegment.map_id)
        .join(Pair, Pair.id == StoredSegment.pair_id)
        .where(
            StoredSegment.run_id == run_id, StoredSegment.source == name, StoredSegment.reward.is_not(None)
        )
        .limit(page_limit(limit) + 1)
    )
    for column, wanted in (
        (StoredSegment.side, side),
        (StoredSegment.polarity, polarity),
        (StoredSegment.kept, kept),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    if cursor is not None:
        after = tuple(decode_cursor(cursor, [(int, float), int, int]))
        query = query.where(place < after if highest else place > after)
    order = (StoredSegment.reward, StoredSegment.map_id, StoredSegment.start)
    found = list(
        session.execute(query.order_by(*(column.desc() if highest else column.asc() for column in order)))
    )
    last = found[limit - 1][0] if len(found) > limit else None
    return Page(
        [_row(*row) for row in found[:limit]],
        None if last is None else encode_cursor(last.reward, last.map_id, last.start),
    )


def _row(segment: StoredSegment, offsets: bytes, tokens: int, pair: Pair) -> SegmentRow:
    covered = unpack_offsets(offsets, tokens)[segment.start : segment.end]
    char_start, char_end = int(covered[0, 0]), int(covered[-1, 1])
    return SegmentRow(
        pair_id=pair.id,
        pair_key=pair.key,
        side=cast(Side, segment.side),
        start=segment.start,
        end=segment.end,
        polarity=segment.polarity,
        reward=segment.reward,
        kept=segment.kept,
        disputed=segment.disputed,
        char_start=char_start,
        char_end=char_end,
        text=getattr(pair, segment.side)[char_start:char_end],
    )
