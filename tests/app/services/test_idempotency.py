"""The same POST twice is one POST."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.db.session import Database
from app.db.tables import IdempotencyKey
from app.errors import Conflict, Invalid
from app.services import idempotency

ROUTE = "POST /api/v1/scorings"


def test_the_second_request_gets_the_first_answer(session: Session) -> None:
    assert idempotency.begin(session, "a", ROUTE, b"{}") is None
    idempotency.finish(session, "a", ROUTE, status=202, headers={"Location": "/runs/1"}, body={"id": 1})
    answer = idempotency.begin(session, "a", ROUTE, b"{}")
    assert answer == idempotency.StoredAnswer(202, {"Location": "/runs/1"}, {"id": 1})


def test_a_key_stands_for_one_payload_and_one_route(session: Session) -> None:
    idempotency.begin(session, "a", ROUTE, b"{}")
    with pytest.raises(Invalid, match="another request"):
        idempotency.begin(session, "a", ROUTE, b'{"other": 1}')
    assert idempotency.begin(session, "a", "POST /api/v1/demo", b'{"other": 1}') is None


def test_a_request_that_is_still_under_way_is_not_done_twice(database: Database) -> None:
    with database.session() as first:
        idempotency.begin(first, "a", ROUTE, b"{}")
        with database.session() as second, pytest.raises(Conflict, match="still under way"):
            idempotency.begin(second, "a", ROUTE, b"{}")


def test_work_that_failed_may_be_sent_again_under_its_key(database: Database) -> None:
    def fail() -> None:
        with database.session() as session:
            idempotency.begin(session, "a", ROUTE, b"{}")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with database.session() as session:
        assert idempotency.begin(session, "a", ROUTE, b"{}") is None


def test_a_key_is_forgotten_after_a_day(session: Session) -> None:
    idempotency.begin(session, "old", ROUTE, b"{}")
    session.execute(update(IdempotencyKey).values(created_at=func.now() - timedelta(hours=25)))
    assert idempotency.begin(session, "new", ROUTE, b"{}") is None
    assert list(session.scalars(select(IdempotencyKey.key))) == ["new"]


@pytest.mark.parametrize("key", ["", "x" * 256, "nul\0"])
def test_a_key_that_is_none_is_refused(session: Session, key: str) -> None:
    with pytest.raises(Invalid, match="printable"):
        idempotency.begin(session, key, ROUTE, b"{}")
