"""Runs over the API: submitted, followed by polling and by events, cancelled, retried, deleted."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.db.session import Database
from app.db.tables import JobStatus, Run
from app.services.runs import jobs, runs
from app.settings import Settings
from engine.types import Progress
from tests.app.factories import claim, make_dataset, make_run

RUNS = "/api/v1/runs"


def submitted(session: Session, kind: str = "scoring") -> Run:
    return jobs.submit(session, kind=kind, name="a run", request={"beta": 0.1})


@pytest.fixture
def run_id(database: Database) -> int:
    with database.session() as session:
        return submitted(session).id


def started(database: Database, run_id: int) -> tuple[int, int]:
    """Takes the run's job up: its id and attempt."""
    with database.session() as session:
        run = runs.get_run(session, run_id)
        return run.job.id, claim(session, run)


def events(text: str) -> list[tuple[str, str, Any]]:
    """(name, id, data) of each event."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], fields["id"], json.loads(fields["data"])))
    return found


def test_a_scoring_is_accepted_and_says_where_to_look(
    client: TestClient, database: Database, settings: Settings
) -> None:
    with database.session() as session:
        dataset = make_dataset(session)
        make_run(session, settings, dataset)
    body = {"dataset_id": dataset.id, "policy": "policy", "reference": "reference", "sources": ["implicit"]}
    answer = client.post("/api/v1/scorings", json=body, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 202, answer.text
    found = answer.json()
    assert answer.headers["location"] == f"{RUNS}/{found['id']}"
    assert found["job"]["status"] == "queued"
    assert client.get(answer.headers["location"]).json() == found
    assert client.post("/api/v1/scorings", json=body, headers={"Idempotency-Key": "k"}).json() == found


@pytest.mark.parametrize(
    "change",
    [
        {"dataset_id": 10**9},
        {"policy": "nobody"},
        {"sources": ["implicit", "magic"]},
        {"sources": ["rm_prefix"]},
        {"sources": []},
        {"beta": 0},
        {"unknown": 1},
    ],
)
def test_a_scoring_that_cannot_be_is_refused_and_leaves_nothing(
    client: TestClient, database: Database, settings: Settings, change: dict[str, Any]
) -> None:
    with database.session() as session:
        dataset = make_dataset(session)
        make_run(session, settings, dataset)
    body = {"dataset_id": dataset.id, "policy": "policy", "reference": "reference", **change}
    answer = client.post("/api/v1/scorings", json=body)
    assert answer.status_code in (404, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.get(RUNS).json()["total"] == 1


def test_runs_are_listed_newest_first_and_filtered(client: TestClient, database: Database) -> None:
    with database.session() as session:
        ids = [submitted(session, kind).id for kind in ("scoring", "demo", "scoring")]
    assert [run["id"] for run in client.get(RUNS).json()["data"]] == ids[::-1]
    assert [run["id"] for run in client.get(RUNS, params={"kind": "demo"}).json()["data"]] == [ids[1]]
    assert client.get(RUNS, params={"status": "running"}).json()["data"] == []
    assert client.get(RUNS, params={"kind": "magic"}).status_code == 422
    queue = client.get("/api/v1/jobs", params={"status": "queued"}).json()["data"]
    assert [job["run_id"] for job in queue] == ids[::-1]
    assert len(client.get(RUNS, params={"format": "jsonl"}).text.splitlines()) == 3
    assert client.get("/api/v1/jobs", params={"format": "parquet"}).status_code == 200


def test_progress_and_its_end_are_told(client: TestClient, database: Database, run_id: int) -> None:
    job_id, attempt = started(database, run_id)
    with database.session() as session:
        jobs.report(session, job_id, attempt, Progress("scoring", 1, 4), "one done")
    job = client.get(f"{RUNS}/{run_id}").json()["job"]
    assert (job["status"], job["phase"], job["done"], job["total"]) == ("running", "scoring", 1, 4)
    with database.session() as session:
        jobs.fail(
            session,
            job_id,
            attempt,
            JobStatus.crashed,
            {"code": "crashed", "detail": "It broke.", "traceback": "secret"},
        )
    found = client.get(f"{RUNS}/{run_id}").json()
    assert found["job"]["error"] == {"code": "crashed", "detail": "It broke."}
    assert "secret" not in json.dumps(found)


def test_a_waiting_run_is_cancelled_at_once_and_can_be_retried(client: TestClient, run_id: int) -> None:
    answer = client.post(f"{RUNS}/{run_id}/cancel")
    assert (answer.status_code, answer.json()["job"]["status"]) == (202, "cancelled")
    answer = client.post(f"{RUNS}/{run_id}/retry", headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["job"]["status"]) == (202, "queued")
    assert answer.headers["location"] == f"{RUNS}/{run_id}"
    again = client.post(f"{RUNS}/{run_id}/retry", headers={"Idempotency-Key": "k"})
    assert again.json() == answer.json()
    assert client.post(f"{RUNS}/{run_id}/retry").status_code == 409


def test_a_running_run_is_asked_to_stop(client: TestClient, database: Database, run_id: int) -> None:
    started(database, run_id)
    job = client.post(f"{RUNS}/{run_id}/cancel").json()["job"]
    assert (job["status"], job["cancel_requested"]) == ("running", True)


def test_only_a_run_that_is_over_is_deleted(client: TestClient, run_id: int) -> None:
    assert client.delete(f"{RUNS}/{run_id}").status_code == 409
    client.post(f"{RUNS}/{run_id}/cancel")
    assert client.delete(f"{RUNS}/{run_id}").status_code == 204
    assert client.get(f"{RUNS}/{run_id}").status_code == 404


@pytest.mark.parametrize("path", ["", "/logs", "/events", "/maps", "/sources", "/segments", "/maps/1/chosen"])
def test_what_is_asked_of_no_run_is_not_found(client: TestClient, path: str) -> None:
    answer = client.get(f"{RUNS}/999{path}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


def test_logs_are_read_from_where_one_stopped(client: TestClient, database: Database, run_id: int) -> None:
    job_id, attempt = started(database, run_id)
    with database.session() as session:
        jobs.log(session, job_id, attempt, "info", ["one", "two", "three"])
    first = client.get(f"{RUNS}/{run_id}/logs", params={"limit": 2}).json()
    assert [line["message"] for line in first["data"]] == ["one", "two"]
    rest = client.get(f"{RUNS}/{run_id}/logs", params={"since": first["since"]}).json()
    assert [line["message"] for line in rest["data"]] == ["three"]
    none = client.get(f"{RUNS}/{run_id}/logs", params={"since": rest["since"]}).json()
    assert (none["data"], none["since"], none["is_over"]) == ([], rest["since"], False)


def test_a_run_that_is_over_is_told_and_the_stream_ends(
    client: TestClient, database: Database, run_id: int
) -> None:
    job_id, attempt = started(database, run_id)
    with database.session() as session:
        jobs.log(session, job_id, attempt, "info", ["one", "two"])
        jobs.finish(session, job_id, attempt, {})
    answer = client.get(f"{RUNS}/{run_id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "content-encoding" not in answer.headers
    found = events(answer.text)
    assert [name for name, _, _ in found] == ["run", "log", "log", "end"]
    assert [data["message"] for name, _, data in found if name == "log"] == ["one", "two"]
    assert found[-1][2] == {"status": "succeeded"}
    assert found[-1][1] == f"{found[-2][1]}.end"

    headers = {"Last-Event-ID": found[1][1]}
    rest = events(client.get(f"{RUNS}/{run_id}/events", headers=headers).text)
    assert [data["message"] for name, _, data in rest if name == "log"] == ["two"]

    seen = client.get(f"{RUNS}/{run_id}/events", headers={"Last-Event-ID": found[-1][1]})
    assert (seen.status_code, seen.content) == (204, b"")


@pytest.mark.parametrize("last", ["nonsense", "-1", "9" * 50, ".end", "٣"])
def test_an_event_id_that_is_none_starts_anew(client: TestClient, run_id: int, last: str) -> None:
    client.post(f"{RUNS}/{run_id}/cancel")
    answer = client.get(f"{RUNS}/{run_id}/events", headers=[(b"last-event-id", last.encode())])
    assert answer.status_code in (200, 204)


def test_events_come_while_the_run_goes_on(client: TestClient, database: Database, run_id: int) -> None:
    job_id, attempt = started(database, run_id)

    def work() -> None:
        time.sleep(0.8)
        with database.session() as session:
            jobs.report(session, job_id, attempt, Progress("scoring", 2, 4), "half way")
        time.sleep(0.8)
        with database.session() as session:
            jobs.finish(session, job_id, attempt, {})

    worker = threading.Thread(target=work)
    begun = time.monotonic()
    worker.start()
    found = events(client.get(f"{RUNS}/{run_id}/events").text)
    worker.join()
    assert time.monotonic() - begun < 4, "word of a change comes by itself, not by looking every few seconds"
    assert [name for name, _, _ in found] == ["run", "run", "log", "run", "end"]
    assert [data["job"]["done"] for name, _, data in found if name == "run"] == [0, 2, 4]


def test_workers_are_listed(client: TestClient) -> None:
    assert client.get("/api/v1/workers").json() == {"data": [], "next_cursor": None, "total": 0}


def test_a_ready_server_says_so_and_gives_figures(anonymous: TestClient, run_id: int) -> None:
    ready = anonymous.get("/readyz")
    assert ready.status_code == 200
    assert (ready.json()["status"], ready.json()["queued"]) == ("ready", 1)
    figures = anonymous.get("/metrics").text
    assert 'rewardscope_jobs{status="queued"} 1.0' in figures
    assert 'route="/readyz"' in figures
    assert "rewardscope_workers 0.0" in figures


def test_figures_name_routes_and_no_ids(client: TestClient, run_id: int) -> None:
    client.get(f"{RUNS}/{run_id}")
    client.request("MAGIC", f"{RUNS}/{run_id}")
    figures = client.get("/metrics").text
    assert f'route="{RUNS}/{{run_id}}"' in figures
    assert f"runs/{run_id}" not in figures
    assert "MAGIC" not in figures


def test_a_run_that_waits_moves_in_the_queue(client: TestClient, database: Database) -> None:
    with database.session() as session:
        first, second = submitted(session).id, submitted(session).id

    moved = client.post(f"{RUNS}/{second}/priority", json={"move": "top"})

    assert moved.status_code == 200
    assert [job["run_id"] for job in client.get("/api/v1/queue").json()["data"]] == [second, first]
    assert client.post(f"{RUNS}/{first}/priority", json={"priority": 9}).json()["job"]["priority"] == 9
    assert [job["run_id"] for job in client.get("/api/v1/queue").json()["data"]] == [first, second]
    for wrong in ({}, {"move": "top", "priority": 1}, {"move": "sideways"}, {"priority": 10**9}):
        assert client.post(f"{RUNS}/{first}/priority", json=wrong).status_code == 422
    client.post(f"{RUNS}/{first}/cancel")
    assert client.post(f"{RUNS}/{first}/priority", json={"move": "up"}).status_code == 409
