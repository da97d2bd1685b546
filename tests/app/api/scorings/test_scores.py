"""Text in, map out: an answer where the scorer is quick, a place to look where it is not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from app.db.session import Database
from app.db.tables import JobStatus, Run
from app.main import create_app
from app.services.runs import jobs, runs
from app.settings import Settings
from tests.app.factories import claim, make_model

PATH = "/api/v1/scores"
TEXTS = {"prompt": "1 + 1?", "chosen": "2", "rejected": "3", "policy": "policy", "reference": "reference"}


@pytest.fixture
def quick(settings: Settings, database: Database) -> Iterator[TestClient]:
    """A server that waits half a second for a score, and has two models."""
    with database.session() as session:
        for name in ("policy", "reference"):
            make_model(session, settings, name)
    settings = settings.model_copy(update={"score_wait_seconds": 0.5})
    assert settings.token is not None
    headers = {"Authorization": f"Bearer {settings.token.get_secret_value()}"}
    app = create_app(settings, database)
    with TestClient(app, base_url="http://127.0.0.1:8321", headers=headers) as client:
        yield client


def answered(database: Database, status: JobStatus, outcome: dict[str, Any]) -> threading.Thread:
    """Somebody who takes up the first run that waits, and ends it."""

    def work() -> None:
        for _ in range(200):
            time.sleep(0.01)
            with database.session() as session:
                run_id = session.scalar(select(Run.id))
                if run_id is None:
                    continue
                run = runs.get_run(session, run_id)
                attempt = claim(session, run)
                if status == JobStatus.succeeded:
                    jobs.finish(session, run.job.id, attempt, outcome)
                else:
                    jobs.fail(session, run.job.id, attempt, status, outcome)
                return

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_score_is_the_answer_where_it_comes_in_time(quick: TestClient, database: Database) -> None:
    thread = answered(database, JobStatus.succeeded, {"maps": [{"id": "x", "side": "chosen"}]})
    answer = quick.post(PATH, json=TEXTS)
    thread.join()
    assert answer.status_code == 200, answer.text
    assert answer.json()["maps"] == [{"id": "x", "side": "chosen"}]
    assert answer.headers["location"] == f"/api/v1/runs/{answer.json()['run_id']}"


def test_a_score_that_takes_longer_is_looked_up(quick: TestClient) -> None:
    answer = quick.post(PATH, json=TEXTS, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 202
    assert answer.json()["job"]["status"] == "queued"
    assert answer.headers["location"] == f"/api/v1/runs/{answer.json()['id']}"
    again = quick.post(PATH, json=TEXTS, headers={"Idempotency-Key": "k"})
    assert again.json()["id"] == answer.json()["id"]


@pytest.mark.parametrize(("status", "code"), [(JobStatus.failed, 422), (JobStatus.crashed, 500)])
def test_a_score_that_failed_says_why(
    quick: TestClient, database: Database, status: JobStatus, code: int
) -> None:
    thread = answered(database, status, {"code": "model_unusable", "detail": "The model has no weights."})
    answer = quick.post(PATH, json=TEXTS)
    thread.join()
    assert answer.status_code == code
    assert answer.json()["code"] == "model_unusable"
    assert answer.json()["detail"] == "The model has no weights."


@pytest.mark.parametrize(
    "change", [{"chosen": None, "rejected": None}, {"policy": "nobody"}, {"chosen": ""}, {"prompt": 1}]
)
def test_a_score_that_cannot_be_is_refused(quick: TestClient, change: dict[str, Any]) -> None:
    answer = quick.post(PATH, json={**TEXTS, **change})
    assert answer.status_code == 422
    assert quick.get("/api/v1/runs").json()["total"] == 0
