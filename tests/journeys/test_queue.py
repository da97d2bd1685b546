"""The queue in a browser: moved by key and by pointer while it refreshes, without a jump."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from app.services.runs import jobs

pytestmark = pytest.mark.browser


def test_runs_are_moved_by_key_and_pointer_and_keep_the_focus(watched, server, database):
    with database.session() as session:
        running = jobs.submit(session, kind="scoring", name="runs already", request={})
        jobs.claim(session, running.job.id, "worker")
        ids = {
            name: jobs.submit(session, kind="training", name=name, request={}).id
            for name in ("first", "second", "third", "fourth")
        }
    page = watched.page
    page.goto(server.token_url)
    page.goto(f"{server.url}/queue")
    names = page.locator(".waiting th a")

    page.focus(f"#name-{ids['fourth']}")
    with page.expect_response("**/move"):
        page.keyboard.press("Alt+ArrowUp")
    expect(names).to_have_text(["first", "second", "fourth", "third"])
    assert page.evaluate("document.activeElement.id") == f"name-{ids['fourth']}"
    expect(page.locator("#queue-message")).to_have_text("fourth waits at place 3 of the default queue.")
    with page.expect_response("**/move"):
        page.keyboard.press("Alt+Home")
    expect(names).to_have_text(["fourth", "first", "second", "third"])
    assert page.evaluate("document.activeElement.id") == f"name-{ids['fourth']}"

    page.click(f"#down-{ids['fourth']}")
    expect(names).to_have_text(["first", "fourth", "second", "third"])
    assert page.evaluate("document.activeElement.id") == f"down-{ids['fourth']}"

    # Refreshes leave elements, focus and place as they are; that rows moved when somebody moved them is no
    # shift, though it may be told only now.
    page.evaluate("""() => {
      globalThis.kept = document.getElementById("queue-workers");
      globalThis.shifts = 0;
      new PerformanceObserver((list) => {
        for (const each of list.getEntries()) if (!each.hadRecentInput) shifts += each.value;
      }).observe({ type: "layout-shift" });
    }""")
    for _ in range(2):
        with page.expect_response("**/queue/state"):
            pass
    assert page.evaluate("kept === document.getElementById('queue-workers')")
    assert page.evaluate("shifts") == 0
    assert page.evaluate("document.activeElement.id") == f"down-{ids['fourth']}"

    page.click(f"#cancel-{ids['second']}")
    expect(names).to_have_text(["first", "fourth", "third"])
