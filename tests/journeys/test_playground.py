"""A text of one's own: scored, coloured, cut anew and kept. A log that somebody reads while it grows."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from app.services.models import models
from app.services.runs import jobs
from engine.types import ModelReference
from tests.app import factories

pytestmark = pytest.mark.browser


def test_a_text_is_scored_shown_cut_anew_and_kept(watched, server, database, settings, worker, model_folder):
    with database.session() as session:
        for seed, name in enumerate(("tuned", "base")):
            path = str(model_folder("llama", seed))
            models.register(session, settings, ModelReference(path=path), name=name)
    page = watched.page
    page.goto(server.token_url)
    page.get_by_role("link", name="Playground", exact=True).click()
    page.get_by_text("No worker is there that scores texts").wait_for()
    page.get_by_label("Prompt").fill("Where is it?")
    page.get_by_label("Response", exact=True).fill("It is in Paris, surely.\nمرحبا")
    page.get_by_label("Another response").fill("No. It is in Rome!")
    page.get_by_label("Policy", exact=True).fill("tuned")
    page.get_by_label("Reference", exact=True).fill("base")
    page.get_by_role("button", name="Score now").click()
    page.get_by_text("The text waits for a worker").wait_for()
    assert worker.run_once()
    # Nobody reloads: the page draws itself anew once the text is scored.
    page.locator(".response[data-side=chosen]").wait_for()
    expect(page.locator(".response[data-side=chosen]")).to_contain_text("مرحبا")
    expect(page.locator('.response i[class*="b"]')).not_to_have_count(0)
    page.get_by_label("Threshold δ").fill("9")
    page.wait_for_url(re.compile(r"/playground/\d+\?.*delta=9"))
    page.wait_for_function("() => document.querySelectorAll('.response i.p').length === 0")
    page.locator(".response i").first.hover()
    page.locator("#inspector > span", has_text=re.compile(r"^reward −?\d")).wait_for()
    page.get_by_role("checkbox", name="Mask").check()
    page.locator("#view.mask-view").wait_for()
    kept = page.url
    page.get_by_text("Change the text or the models").click()
    expect(page.get_by_label("Policy", exact=True)).to_have_value("tuned")
    page.get_by_role("link", name="Start afresh").click()
    expect(page.get_by_label("Prompt")).to_have_value("")
    expect(page.get_by_label("Policy", exact=True)).to_have_value("tuned")
    page.get_by_role("link", name="Where is it?").wait_for()
    page.goto(kept)
    page.locator("#view.mask-view").wait_for()
    expect(page.get_by_label("Threshold δ")).to_have_value("9")


def test_who_reads_a_log_keeps_the_line_and_who_follows_it_sees_its_end(watched, server, database, settings):
    with database.session() as session:
        run = factories.make_run(session, settings, factories.make_dataset(session))
        attempt = factories.claim(session, run)
        jobs.log(session, run.job.id, attempt, "info", [f"line {number}" for number in range(150)])

    def say(first: int, last: int) -> None:
        with database.session() as session:
            lines = [f"line {number}" for number in range(first, last)]
            jobs.log(session, run.job.id, attempt, "info", lines)

    page = watched.page
    page.goto(server.token_url)
    page.goto(f"{server.url}/runs/{run.id}")
    at_its_end = """() => {
      const log = document.querySelector(".log");
      return log.scrollHeight - log.scrollTop - log.clientHeight < 2;
    }"""
    page.wait_for_function(at_its_end)
    say(150, 160)
    page.get_by_text("line 159", exact=True).wait_for()
    page.wait_for_function(at_its_end)
    # The line in sight stays where it is, though the log grows by a page and loses its beginning.
    line = page.get_by_text("line 120", exact=True)
    line.evaluate("l => { const log = l.closest('.log'); log.scrollTop = l.offsetTop - log.offsetTop; }")
    follow = page.get_by_label("Follow")
    page.wait_for_function("() => !document.querySelector('[data-follow]').checked")
    before = page.get_by_text("line 120", exact=True).bounding_box()
    say(160, 260)
    page.get_by_text("line 259", exact=True).wait_for()
    after = page.get_by_text("line 120", exact=True).bounding_box()
    assert abs(after["y"] - before["y"]) < 2
    expect(follow).not_to_be_checked()
    follow.check()
    page.wait_for_function(at_its_end)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download all as text").click()
    assert download.value.path().read_text().count("\n") == 260
