from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db import migrate
from app.errors import NotReady
from app.services import health
from app.services.runs import workers


def beat(session: Session, name: str, pid: int = 1) -> None:
    workers.beat(session, name=name, host="h", pid=pid, version="0", device="cpu", queues=["default"])


def age(session: Session, name: str, seconds: int) -> None:
    session.execute(
        text("UPDATE workers SET heartbeat_at = now() - make_interval(secs => :seconds) WHERE name = :name"),
        {"name": name, "seconds": seconds},
    )


def test_workers_that_are_alive_come_first(session: Session) -> None:
    for name in ("a", "b"):
        beat(session, name)
    age(session, "a", 60)
    assert [(worker.name, worker.alive) for worker in workers.list_workers(session)] == [
        ("b", True),
        ("a", False),
    ]
    assert workers.count_alive(session) == 1


def test_a_worker_that_beats_again_is_one_worker(session: Session) -> None:
    beat(session, "a")
    age(session, "a", 60)
    beat(session, "a", pid=2)
    (worker,) = workers.list_workers(session)
    assert (worker.pid, worker.alive, worker.queues) == (2, True, ["default"])


def test_workers_leave_and_are_forgotten(session: Session) -> None:
    for name in ("a", "b", "c"):
        beat(session, name)
    workers.leave(session, "a")
    age(session, "b", workers.FORGOTTEN_SECONDS + 1)
    workers.forget(session)
    assert [worker.name for worker in workers.list_workers(session)] == ["c"]


def test_a_server_with_its_tables_is_ready(session: Session) -> None:
    beat(session, "a")
    assert health.check(session) == health.Health(revision=migrate.head(), workers=1, queued=0)


def test_a_server_on_tables_of_another_release_is_not_ready(session: Session) -> None:
    session.execute(text("UPDATE alembic_version SET version_num = 'other'"))
    with pytest.raises(NotReady, match="rewardscope db upgrade"):
        health.check(session)
    session.execute(text("UPDATE alembic_version SET version_num = :head"), {"head": migrate.head()})
