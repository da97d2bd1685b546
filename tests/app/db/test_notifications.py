from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from app.db.notifications import CHANNEL, listen, notify
from app.db.session import Database
from app.errors import NotReady


def change(database: Database, *runs: int) -> None:
    with database.session() as session:
        for run in runs:
            notify(session, run)


def test_a_listener_hears_of_a_change_once_it_is_committed(database: Database) -> None:
    async def scenario() -> None:
        async with listen(database.url) as listener:
            with database.session() as session:
                notify(session, 7)
                session.flush()
                assert await listener.heard(0.05) == set()
            assert await listener.heard(10) == {7}

    asyncio.run(scenario())


def test_nothing_is_heard_when_nothing_changes(database: Database) -> None:
    async def scenario() -> None:
        async with listen(database.url) as listener:
            assert await listener.heard(0.05) == set()

    asyncio.run(scenario())


def test_changes_between_two_looks_are_not_lost(database: Database) -> None:
    async def scenario() -> set[int]:
        heard: set[int] = set()
        async with listen(database.url) as listener:
            change(database, 1, 2)
            while len(heard) < 2:
                heard |= await listener.heard(10)
        return heard

    assert asyncio.run(scenario()) == {1, 2}


def test_a_payload_that_is_not_ours_says_nothing(database: Database) -> None:
    async def scenario() -> None:
        async with listen(database.url) as listener:
            for payload in ("", "nonsense", "[]", '{"run": null}'):
                with database.session() as session:
                    session.execute(
                        text("SELECT pg_notify(:channel, :payload)"), {"channel": CHANNEL, "payload": payload}
                    )
                assert await listener.heard(10) == set()

    asyncio.run(scenario())


def test_a_listener_that_is_cut_off_says_so(database: Database) -> None:
    async def scenario() -> None:
        async with listen(database.url) as listener:
            with database.session() as session:
                session.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE application_name = 'rewardscope listener'"
                    )
                )
            with pytest.raises(NotReady):
                await listener.heard(10)

    asyncio.run(scenario())


def test_a_data_base_that_is_away_is_not_ready() -> None:
    async def scenario() -> None:
        async with listen("postgresql://nobody@127.0.0.1:1/nothing"):
            pass

    with pytest.raises(NotReady):
        asyncio.run(scenario())
