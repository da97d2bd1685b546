"""Word that a run changed, from whichever process changed it to whoever listens (PostgreSQL's NOTIFY).

A notification carries only the run's id: the listener reads the rest from the tables, which are the truth.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import psycopg
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db.session import libpq_url
from app.errors import NotReady

CHANNEL = "rewardscope"


def notify(session: Session, run_id: int) -> None:
    """Tell every listener, once this transaction is committed, that the run changed."""
    session.execute(
        text("SELECT pg_notify(:channel, :payload)"), {"channel": CHANNEL, "payload": _write(run_id)}
    )


class Listener:
    """Hears of changed runs, from the moment it was made."""

    def __init__(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        self._connection = connection

    async def heard(self, timeout: float) -> set[int]:
        """Ids of runs that changed: as soon as one did, or none after `timeout` seconds."""
        runs: set[int] = set()
        try:
            async for notification in self._connection.notifies(timeout=timeout, stop_after=1):
                runs.update(_read(notification.payload))
        except psycopg.OperationalError as error:
            raise NotReady("The connection to the data base was lost; connect again.") from error
        return runs


@asynccontextmanager
async def listen(url: str) -> AsyncIterator[Listener]:
    """A listener on the data base at `url`, with a connection of its own."""
    try:
        connection = await psycopg.AsyncConnection.connect(
            libpq_url(url), autocommit=True, application_name="rewardscope listener"
        )
    except psycopg.OperationalError as error:
        raise NotReady(
            "The data base cannot be reached. Check that PostgreSQL runs, then try again."
        ) from error
    async with connection:
        await connection.execute(f"LISTEN {CHANNEL}")
        yield Listener(connection)


def _write(run_id: int) -> str:
    return json.dumps({"run": run_id})


def _read(payload: str) -> Iterator[int]:
    """The run's id; a payload that is not ours says nothing."""
    try:
        yield int(json.loads(payload)["run"])
    except (ValueError, TypeError, KeyError):
        return
