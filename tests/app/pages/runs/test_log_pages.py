"""The end of a job's log on its page, and all of it as a file."""

from __future__ import annotations

from app.pages.parts.run_page import LOG_LINES
from app.services.runs import jobs
from tests.app import factories


def running(database, settings, lines) -> int:
    """A run that works and has said this."""
    with database.session() as session:
        run = factories.make_run(session, settings, factories.make_dataset(session))
        attempt = factories.claim(session, run)
        jobs.log(session, run.job.id, attempt, "info", lines)
        return run.id


def test_a_log_without_lines_offers_no_file(browser_client, database, settings):
    page = browser_client.get(f"/runs/{running(database, settings, [])}").text
    assert "The log is empty so far." in page
    assert "log.txt" not in page


def test_a_long_log_shows_its_end_and_is_whole_as_a_file(browser_client, database, settings):
    run_id = running(database, settings, [f"line {number}" for number in range(LOG_LINES * 3)])
    page = browser_client.get(f"/runs/{run_id}").text
    assert f"the last {LOG_LINES} lines" in page
    assert page.count("data-line=") == LOG_LINES
    assert f"line {LOG_LINES * 3 - 1}<" in page
    assert "data-follow" in page
    answer = browser_client.get(f"/runs/{run_id}/log.txt")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert f"rewardscope-run-{run_id}.log" in answer.headers["content-disposition"]
    told = answer.text.splitlines()
    assert len(told) == LOG_LINES * 3
    assert told[0].endswith("1 info    line 0")


def test_the_log_of_no_run_is_no_file(browser_client):
    assert browser_client.get("/runs/999/log.txt").status_code == 404
