"""The page of the queue: what runs where, what waits, and its forms."""

from __future__ import annotations

import re

import pytest

from app.db.tables import JobStatus
from app.services.runs import jobs, workers
from engine.types import Progress


def get(client, path, status=200):
    answer = client.get(path)
    assert answer.status_code == status, answer.text[:500]
    return answer.text


def places(page: str) -> list[str]:
    """The names of the runs that wait, next first."""
    return re.findall(r'id="name-\d+">([^<]+)</a>', page)


@pytest.fixture
def waiting(database) -> dict[str, int]:
    """Three runs that wait, by name."""
    with database.session() as session:
        return {
            name: jobs.submit(session, kind="training", name=name, request={}).id
            for name in ("first", "second", "third")
        }


def test_an_empty_queue_says_so_and_how_to_start_a_worker(browser_client):
    page = get(browser_client, "/queue")

    assert "Nothing runs or waits here." in page
    assert "rewardscope worker" in page
    assert "None has joined yet." in page


def test_what_runs_is_shown_with_its_worker_and_how_far_it_is(browser_client, database):
    with database.session() as session:
        workers.beat(
            session,
            name="gpu-1",
            host="node-7",
            pid=42,
            version="0.1.0",
            device="cuda:0",
            queues=["default"],
            memory_bytes=80 * 2**30,
        )
        run = jobs.submit(session, kind="scoring", name="<b>ugly</b>", request={})
        claim = jobs.claim(session, run.job.id, "gpu-1")
        jobs.report(session, claim.job_id, claim.attempt, Progress("scoring", 30, 120, "pairs"))

    page = get(browser_client, "/queue")

    assert "&lt;b&gt;ugly&lt;/b&gt;" in page
    for told in ("gpu-1", "node-7", "cuda:0", "80", "scoring, 25%", "process 42"):
        assert told in page, told
    assert "gives no sign of life" not in page
    assert "No worker takes jobs" not in page


def test_a_run_whose_worker_is_gone_and_a_queue_without_worker_are_marked(browser_client, database):
    with database.session() as session:
        workers.beat(session, name="cpu", host="h", pid=1, version="0", device="cpu", queues=["interactive"])
        run = jobs.submit(session, kind="scoring", name="lost", request={})
        jobs.claim(session, run.job.id, "nobody")
        jobs.submit(session, kind="scoring", name="waits", request={})

    page = get(browser_client, "/queue")

    assert "gives no sign of life" in page
    assert "rewardscope worker --queue default" in page


def test_runs_move_by_plain_forms_and_by_fragments(browser_client, waiting):
    assert places(get(browser_client, "/queue")) == ["first", "second", "third"]

    move = f"/queue/{waiting['third']}/move"
    plain = browser_client.post(move, data={"where": "up"}, follow_redirects=False)
    assert (plain.status_code, plain.headers["location"]) == (303, "/queue")
    part = browser_client.post(
        move, data={"where": "top"}, headers={"HX-Request": "true"}, follow_redirects=False
    )

    assert part.status_code == 200
    assert part.text.lstrip().startswith('<div id="queue"')
    assert "third waits at place 1 of the default queue." in part.text
    assert places(part.text) == places(get(browser_client, "/queue/state")) == ["third", "first", "second"]
    assert browser_client.post(move, data={"where": "sideways"}).status_code == 422


def test_runs_are_cancelled_and_retried_from_the_queue(browser_client, database, waiting):
    run_id = waiting["second"]
    answer = browser_client.post(f"/queue/{run_id}/cancel", headers={"HX-Request": "true"})
    assert "second is cancelled." in answer.text
    assert places(answer.text) == ["first", "third"]

    with database.session() as session:
        claim = jobs.claim(session, jobs._locked_of_run(session, waiting["first"]).id, "worker")
        jobs.fail(
            session, claim.job_id, claim.attempt, JobStatus.failed, {"code": "x", "detail": "No memory left."}
        )
    page = get(browser_client, "/queue")
    assert "Did not end well" in page
    assert "No memory left." in page
    browser_client.post(f"/queue/{waiting['first']}/retry")
    page = get(browser_client, "/queue")
    assert places(page) == ["third", "first"]
    assert "Did not end well" not in page


def test_a_move_that_comes_too_late_says_why(browser_client, database, waiting):
    with database.session() as session:
        jobs.cancel(session, waiting["first"])

    answer = browser_client.post(f"/queue/{waiting['first']}/move", data={"where": "top"})

    assert answer.status_code == 409
    assert "only runs that wait" in answer.text
