"""COPY: the fastest way for many rows into a table, inside the session's own transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session


def copy_rows(session: Session, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Streams `rows` into the columns of a table; returns how many. Flush what they refer to before.

    Raises the driver's errors as SQLAlchemy does, so that a full disk is seen as one.
    """
    connection = cast("psycopg.Connection[Any]", session.connection().connection.driver_connection)
    names = psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, columns))
    statement = psycopg.sql.SQL("COPY {} ({}) FROM STDIN").format(psycopg.sql.Identifier(table), names)
    count = 0
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for count, row in enumerate(rows, start=1):  # noqa: B007 - counted for the caller
                copy.write_row(row)
    except psycopg.Error as error:
        raise DBAPIError.instance(statement.as_string(), None, error, psycopg.Error) from error
    return count
