"""News of runs that ended: none before somebody looks, then each that ended well or badly since."""

from __future__ import annotations

from app.db.tables import JobStatus
from app.services.runs import jobs, runs
from tests.app import factories


def ended(database, settings, status) -> int:
    """A run that ended so."""
    with database.session() as session:
        dataset = factories.make_dataset(session, 1, f"set {status}")
        run = factories.make_run(session, settings, dataset)
        attempt = factories.claim(session, run)
        error = None if status == JobStatus.cancelled else {"code": "x", "detail": "It broke."}
        if status == JobStatus.succeeded:
            jobs.finish(session, run.job.id, attempt, {})
        else:
            jobs.fail(session, run.job.id, attempt, status, error)
        return run.id


def test_who_looks_for_the_first_time_hears_of_nothing_old(client, database, settings):
    ended(database, settings, JobStatus.succeeded)
    news = client.get("/news").json()
    assert news["items"] == []
    assert news["now"]


def test_runs_that_ended_since_are_told_but_for_cancelled_ones(client, database, settings):
    moment = client.get("/news").json()["now"]
    for status in (JobStatus.succeeded, JobStatus.cancelled, JobStatus.crashed, JobStatus.failed):
        ended(database, settings, status)
    news = client.get("/news", params={"after": moment}).json()
    assert [item["status"] for item in news["items"]] == ["failed", "crashed", "succeeded"]
    assert news["now"] > moment
    assert client.get(news["items"][0]["url"], headers={"Accept": "text/html"}).status_code == 200


def test_a_run_that_ended_again_is_news_again(client, database, settings):
    moment = client.get("/news").json()["now"]
    run_id = ended(database, settings, JobStatus.failed)
    first = client.get("/news", params={"after": moment}).json()["items"]
    with database.session() as session:
        jobs.retry(session, run_id)
        run = runs.get_run(session, run_id)
        jobs.finish(session, run.job.id, factories.claim(session, run), {})
    again = client.get("/news", params={"after": moment}).json()["items"]
    assert [item["status"] for item in again] == ["succeeded"]
    assert again[0]["key"] != first[0]["key"]


def test_a_moment_that_is_none_is_refused(client):
    for wrong in ("yesterday", "9999-12-31T23:59:59-23:00"):
        assert client.get("/news", params={"after": wrong}).status_code == 422
