"""What a run found as records: reward maps with the signal, pivots, segments and mask that its rules make of
them. Exactly what `rewardscope score` writes, for whoever trains with the masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO, Literal, cast

from fastapi import Depends, Query
from starlette.responses import StreamingResponse

from app.api.parts import tables
from app.api.parts.common import Id, View, door
from app.api.parts.lists import Listing
from app.api.scorings.maps import BATCH, Track
from app.db.session import Database
from app.dependencies import DatabaseDep
from app.problems import responses
from app.services.paging import DEFAULT_LIMIT, MAX_LIMIT, Page
from app.services.scorings import records
from engine.formats.canonical import json_line
from engine.types import Side

RecordFormat = Literal["json", "jsonl", "parquet"]
Record = dict[str, Any]


class SegmentRecord(View):
    """A segment of a record: tokens [start, end), its polarity and its reward."""

    start: int
    end: int
    polarity: int
    reward: float | None


class MapRecord(View):
    """One response. Lists have one entry a token; null is a missing number."""

    id: str
    """The user's name for the row."""
    side: Side
    tokens: list[str]
    offsets: list[tuple[int, int]]
    """Code points [start, end) of every token in the response."""
    logprobs: Track | None
    reference_logprobs: Track | None
    entropies: Track | None
    token_rewards: dict[str, Track]
    """By source, as are the fields below."""
    signal: dict[str, list[int]]
    """1, -1 or 0 for every token."""
    pivots: dict[str, list[int]]
    """Tokens at which the signal turns."""
    segments: dict[str, list[SegmentRecord]]
    mask: dict[str, list[bool]]
    """True where the token counts."""


@dataclass(frozen=True, slots=True)
class RecordPaging:
    """Which records are wanted, and how they are written."""

    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Records a page.")] = DEFAULT_LIMIT
    cursor: Annotated[str | None, Query(max_length=2000, description="`next_cursor` of the page before.")] = (
        None
    )
    format: Annotated[
        RecordFormat,
        Query(description="`json` is a page; the others are the rest of the records as a file."),
    ] = "json"


FILES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page, or with `format` all records as a file.",
        "content": {
            tables.MEDIA_TYPES[kind]: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("jsonl", "parquet")
        },
    }
}

router = door("runs")


@router.get("/{run_id}/records", response_model=Listing[MapRecord], responses=FILES | responses(409))
def list_records(run_id: Id, paging: Annotated[RecordPaging, Depends()], database: DatabaseDep) -> Any:
    """Reward maps of a run that succeeded, cut by its own rules, in the order of its rows."""
    kind = paging.format
    with database.session() as session:
        sources = records.sources_of(session, run_id)
        limit = paging.limit if kind == "json" else BATCH
        first = records.list_records(session, run_id, limit=limit, cursor=paging.cursor)
    if kind == "json":
        return {"data": first.items, "next_cursor": first.next_cursor}
    batches = _pages(database, run_id, first)
    return StreamingResponse(
        _json_lines(batches) if kind == "jsonl" else _parquet(batches, sources),
        media_type=tables.MEDIA_TYPES[kind],
        headers={"Content-Disposition": f'attachment; filename="records-{run_id}.{kind}"'},
    )


def _pages(database: Database, run_id: int, page: Page[Record]) -> Iterator[list[Record]]:
    """Page after page, each in a short transaction: a slow reader must not hold one open."""
    yield page.items
    while page.next_cursor is not None:
        with database.session() as session:
            page = records.list_records(session, run_id, limit=BATCH, cursor=page.next_cursor)
        yield page.items


def _json_lines(batches: Iterable[list[Record]]) -> Iterator[bytes]:
    for batch in batches:
        yield b"".join(json_line(record) for record in batch)


def _parquet(batches: Iterable[list[Record]], sources: list[str]) -> Iterator[bytes]:
    # Here and not above: most servers are never asked for Parquet, and the library takes memory.
    from engine.formats.parquet_maps import ParquetRecords

    tail = tables.Tail()
    with ParquetRecords(cast(BinaryIO, tail), sources) as file:
        for batch in batches:
            for record in batch:
                file.write(record)
            yield tail.take()
    yield tail.take()
