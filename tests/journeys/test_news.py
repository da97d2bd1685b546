"""Notices of runs that ended: in every open tab, seen once, asked for by one tab only."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from app.db.tables import JobStatus
from app.services.runs import jobs
from tests.app import factories

pytestmark = pytest.mark.browser


def end(database, settings, name, status) -> None:
    """A run of a data set of this name ends."""
    with database.session() as session:
        run = factories.make_run(session, settings, factories.make_dataset(session, 1, name))
        attempt = factories.claim(session, run)
        if status == JobStatus.succeeded:
            jobs.finish(session, run.job.id, attempt, {})
        else:
            jobs.fail(session, run.job.id, attempt, status, {"code": "x", "detail": "It broke."})


def test_a_run_that_ends_is_told_in_every_tab_and_asked_for_by_one(watched, server, database, settings):
    first = watched.page
    asked: list[object] = []
    first.context.on("request", lambda request: "/news" in request.url and asked.append(request.frame.page))
    first.goto(server.token_url)
    first.wait_for_function("() => JSON.parse(localStorage.getItem('news'))?.after")
    others = [first.context.new_page() for _ in range(3)]
    for page, path in zip(others, ("/runs", "/models", "/playground"), strict=True):
        page.goto(server.url + path)
        page.wait_for_load_state("networkidle")  # The tab in sight asks from now on.
    asked.clear()
    end(database, settings, "good", JobStatus.succeeded)
    end(database, settings, "bad", JobStatus.crashed)
    for page in (first, *others):
        page.locator(".notice .badge.crashed").wait_for()
        expect(page.locator(".notice")).to_have_count(2)
    assert len(set(asked)) == 1
    # What one has seen, all have seen; a tab that nobody looks at says how many are left.
    others[0].evaluate(
        "Object.defineProperty(document, 'hidden', { get: () => true });"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    others[0].wait_for_function("() => document.title.startsWith('(2) ')")
    others[1].locator(".notice", has_text="good").get_by_role("button").click()
    others[0].wait_for_function("() => document.title.startsWith('(1) ')")
    expect(first.locator(".notice")).to_have_count(1)
    # The tab that asked is closed: another one goes on.
    asked[0].close()
    left = next(page for page in (*others, first) if page is not asked[0])
    end(database, settings, "late", JobStatus.failed)
    left.locator(".notice", has_text="late").wait_for()
    left.get_by_role("link", name="late").click()
    left.get_by_text("It broke.").first.wait_for()
    expect(left.locator(".notice", has_text="late")).to_have_count(0)
    left.get_by_role("button", name="Dismiss", exact=False).last.click()
    left.wait_for_function("() => !document.querySelector('.notice')")
    left.reload()
    left.wait_for_load_state()
    expect(left.locator(".notice")).to_have_count(0)
