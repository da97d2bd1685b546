"""The way to the data base: an engine, and sessions that commit whole or leave nothing.

A full disk becomes `StorageFull` and a data base that is away becomes `NotReady`, whoever notices first.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from app.errors import NotReady, StorageFull

DISK_FULL = "53100"
"""PostgreSQL's SQLSTATE `disk_full`."""
UNREACHABLE_CLASSES = ("08", "57P", "53300")
"""SQLSTATEs of a connection that failed, a server that stops or starts, and of too many connections."""


def sqlalchemy_url(url: str) -> URL:
    """`url` for SQLAlchemy with psycopg 3, whichever way of writing a PostgreSQL URL was used."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise NotReady(
            "The data base URL is not that of a PostgreSQL. "
            "Set REWARDSCOPE_DATABASE_URL to postgresql://user:password@host/name."
        )
    return parsed.set(drivername="postgresql+psycopg")


def libpq_url(url: str) -> str:
    """`url` for psycopg itself, which knows no `+driver`."""
    return sqlalchemy_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def make_engine(url: str) -> Engine:
    """An engine whose pool notices connections that a restarted server has closed."""
    return create_engine(
        sqlalchemy_url(url),
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=15,
        pool_timeout=10,
        connect_args={"connect_timeout": 10, "application_name": "rewardscope"},
    )


class Database:
    """One data base and its sessions. Threads may share it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def connect(cls, url: str) -> Database:
        """The data base at `url`; the first connection is made by the first session."""
        return cls(make_engine(url))

    @property
    def url(self) -> str:
        """Where it is, password included: for connections that are made elsewhere (queue, notifications)."""
        return self.engine.url.render_as_string(hide_password=False)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction: committed at the end, rolled back on any error. Objects stay readable after it."""
        with translated_errors(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    def dispose(self) -> None:
        """Close every idle connection."""
        self.engine.dispose()


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn a full disk and a lost data base into the errors that doors understand."""
    try:
        yield
    except DBAPIError as error:
        raise _translated(error) from error
    except PoolTimeout as error:
        raise NotReady("All connections to the data base are busy. Try again in a few seconds.") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _storage_full() from error
        raise


def _translated(error: DBAPIError) -> Exception:
    state = getattr(error.orig, "sqlstate", None) or ""
    if state == DISK_FULL:
        return _storage_full()
    unreachable = not state and type(error).__name__ == "OperationalError"
    if error.connection_invalidated or unreachable or state.startswith(UNREACHABLE_CLASSES):
        return NotReady(
            "The data base cannot be reached. Check that PostgreSQL runs and that "
            "REWARDSCOPE_DATABASE_URL is right, then try again."
        )
    return error


def _storage_full() -> StorageFull:
    return StorageFull("The disk is full; nothing of this request was stored. Free some space and try again.")
