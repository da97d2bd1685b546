from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from sqlalchemy import select, text

from app.db.session import Database, libpq_url, sqlalchemy_url
from app.db.tables import WorkerRow
from app.errors import NotReady, StorageFull


def add_worker(database: Database) -> None:
    with database.session() as session:
        session.add(WorkerRow(name="a", host="h", pid=1, version="0", device="cpu", queues=[]))


def raise_in(database: Database, error: Exception) -> Callable[[], None]:
    def use() -> None:
        with database.session() as session:
            session.add(WorkerRow(name="a", host="h", pid=1, version="0", device="cpu", queues=[]))
            session.flush()
            raise error

    return use


def workers(database: Database) -> list[WorkerRow]:
    with database.session() as session:
        return list(session.scalars(select(WorkerRow)))


def test_a_session_commits_at_its_end_and_objects_stay_readable(database: Database) -> None:
    add_worker(database)
    assert [worker.name for worker in workers(database)] == ["a"]


def test_a_session_that_fails_leaves_nothing(database: Database) -> None:
    with pytest.raises(ValueError, match="no"):
        raise_in(database, ValueError("no"))()
    assert workers(database) == []


def test_a_full_disk_of_ours_is_said_in_a_sentence(database: Database) -> None:
    with pytest.raises(StorageFull, match="disk is full"):
        raise_in(database, OSError(errno.ENOSPC, "No space left on device"))()
    assert workers(database) == []


def test_a_full_disk_of_the_data_base_is_said_in_a_sentence(database: Database) -> None:
    with pytest.raises(StorageFull), database.session() as session:
        session.execute(text("DO $$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = '53100'; END $$"))


def test_a_data_base_that_is_away_is_not_ready() -> None:
    database = Database.connect("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(NotReady, match="cannot be reached"), database.session() as session:
        session.execute(text("SELECT 1"))


def test_a_connection_that_is_cut_is_not_ready_and_the_next_one_works(database: Database) -> None:
    with pytest.raises(NotReady), database.session() as session:
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert workers(database) == []


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
def test_every_way_of_writing_a_url_reaches_psycopg(scheme: str) -> None:
    url = f"{scheme}://user:p%40ss@host:5433/name?sslmode=require"
    assert sqlalchemy_url(url).drivername == "postgresql+psycopg"
    assert libpq_url(url) == "postgresql://user:p%40ss@host:5433/name?sslmode=require"


@pytest.mark.parametrize("url", ["sqlite:///x.db", "mysql://host/name", "nonsense"])
def test_only_postgresql_is_taken(url: str) -> None:
    with pytest.raises(NotReady, match="REWARDSCOPE_DATABASE_URL"):
        sqlalchemy_url(url)
