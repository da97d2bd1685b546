"""How every list is asked for and answered: a page with a cursor, or all of it as a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.responses import StreamingResponse

from app.api.parts import tables
from app.db.session import Database
from app.services.paging import DEFAULT_LIMIT, MAX_LIMIT, Page

Item = TypeVar("Item")
Row = TypeVar("Row", bound=BaseModel)
Fetch = Callable[[Session, int, str | None], Page[Row]]
"""Gives a page of views: (session, limit, cursor)."""


class Listing(BaseModel, Generic[Item]):
    """A page of a list."""

    data: list[Item]
    next_cursor: str | None
    """Where the next page begins; null at the end of the list."""
    total: int | None = None
    """How many there are in all; null where counting would cost more than it tells."""


@dataclass(frozen=True, slots=True)
class Paging:
    """Which part of a list is wanted, and how it is written."""

    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows a page.")] = DEFAULT_LIMIT
    cursor: Annotated[str | None, Query(max_length=2000, description="`next_cursor` of the page before.")] = (
        None
    )
    format: Annotated[
        Literal["json", "jsonl", "csv", "parquet"],
        Query(description="`json` is a page; the others are the rest of the list as a file."),
    ] = "json"


PagingDep = Annotated[Paging, Depends()]

FILES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page, or with `format` the whole list as a file.",
        "content": {
            media_type.partition(";")[0]: {"schema": {"type": "string", "format": "binary"}}
            for media_type in tables.MEDIA_TYPES.values()
        },
    }
}
"""What the OpenAPI says of a list's formats."""


def answer(
    database: Database,
    paging: Paging,
    fetch: Fetch[Row],
    row: type[Row],
    name: str,
    batch: int = MAX_LIMIT,
) -> Listing[Row] | StreamingResponse:
    """The page, or a file called `name` with every row from the cursor on, read `batch` rows at a time."""
    if paging.format == "json":
        with database.session() as session:
            page = fetch(session, paging.limit, paging.cursor)
        return Listing[Row](data=page.items, next_cursor=page.next_cursor, total=page.total)
    # The first page is read before the answer begins, so that what is wrong can still be said.
    with database.session() as session:
        first = fetch(session, batch, paging.cursor)
    return StreamingResponse(
        tables.encode(paging.format, row, _pages(database, fetch, first, batch)),
        media_type=tables.MEDIA_TYPES[paging.format],
        headers={"Content-Disposition": f'attachment; filename="{name}.{paging.format}"'},
    )


def _pages(database: Database, fetch: Fetch[Row], page: Page[Row], batch: int) -> Iterator[list[BaseModel]]:
    """Page after page, each in a short transaction: a slow reader must not hold one open."""
    yield list(page.items)
    while page.next_cursor is not None:
        with database.session() as session:
            page = fetch(session, batch, page.next_cursor)
        yield list(page.items)
