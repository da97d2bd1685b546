"""Scoring one's own data through the pages: a file, two models, a real worker, and the coloured tokens."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

from tests.app import factories

pytestmark = pytest.mark.browser

ROWS = [
    {"prompt": f"Say {number}.", "chosen": f"It is {number}, surely.", "rejected": f"No. It is {number + 1}!"}
    for number in range(3)
]


def bring(page, tmp_path) -> None:
    """Uploads a file of three pairs."""
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    page.get_by_role("link", name="Bring your own data").click()
    page.get_by_label("File").set_input_files(path)
    page.get_by_role("button", name="Bring it in").click()
    page.get_by_role("heading", name="mine").wait_for()


def register(page, folder, name: str) -> None:
    """Registers a model by its folder."""
    page.get_by_role("link", name="Models", exact=True).click()
    page.get_by_label("Folder or name on the hub").fill(str(folder))
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Register").click()
    page.get_by_role("rowheader", name=name, exact=True).wait_for()


def score(page, dataset: str, policy: str, reference: str) -> None:
    """Asks for the scores of a data set that has none."""
    page.get_by_role("link", name="Data", exact=True).click()
    page.get_by_role("link", name=dataset, exact=True).click()
    page.get_by_role("link", name="Score this data set").click()
    page.get_by_label("Policy", exact=True).fill(policy)
    page.get_by_label("Reference", exact=True).fill(reference)
    page.get_by_role("button", name="Score", exact=True).click()
    page.get_by_text("waits for a worker").wait_for()


def test_from_a_file_of_ones_own_to_its_coloured_tokens(watched, server, worker, model_folder, tmp_path):
    page = watched.page
    page.goto(server.token_url)
    bring(page, tmp_path)
    register(page, model_folder("llama", 0), "tuned")
    register(page, model_folder("llama", 1), "base")
    score(page, "mine", "tuned", "base")
    address = page.url
    assert worker.run_once()
    # Nobody reloads: the page asks by itself, and draws itself anew once the run is over.
    page.locator(".badge.succeeded").wait_for()
    assert page.url == address
    page.get_by_role("heading", name="Result").wait_for()
    page.get_by_role("link", name="Open the pairs").click()
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("Conflict")
    assert page.locator("tbody th[scope=row]", has_text="mine").count() <= len(ROWS)
    page.locator(".pairs-table tbody th[scope=row] a").first.click()
    page.locator(".response").first.wait_for()
    expect(page.locator('.response i[class*="b"]')).not_to_have_count(0)
    expect(page.locator(".response[data-side=chosen]")).to_contain_text("It is")
    page.locator(".response i").first.hover()
    for track in ("reward", "scaled", "log p", "log p reference", "entropy", "rank"):
        page.locator("#inspector > span", has_text=re.compile(rf"^{track} −?\d")).wait_for()


def test_a_run_is_cancelled_tried_again_and_deleted(watched, server, database, settings):
    with database.session() as session:
        factories.make_run(session, settings, factories.make_dataset(session, 3))
    page = watched.page
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(server.token_url)
    page.get_by_role("link", name="Runs", exact=True).click()
    page.get_by_role("link", name="capitals: implicit").click()
    page.get_by_role("button", name="Cancel").click()
    page.locator(".badge.cancelled").wait_for()
    page.get_by_role("button", name="Retry").click()
    page.locator(".badge.queued").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.locator(".badge.cancelled").wait_for()
    page.get_by_role("button", name="Delete").click()
    page.get_by_text("Nothing has run yet").wait_for()


def test_home_shows_how_far_the_demo_is_and_then_the_data(watched, server, database):
    page = watched.page
    page.goto(server.token_url)
    page.get_by_role("button", name="Load the demo").click()
    page.get_by_text("waits for a worker").wait_for()
    page.get_by_role("link", name="Data", exact=True).click()
    page.get_by_text("The demo waits for a worker").wait_for()
    expect(page.get_by_role("button", name="Load the demo")).to_have_count(0)
    with database.session() as session:
        factories.make_dataset(session, 3, "came meanwhile")
    page.get_by_role("link", name="came meanwhile", exact=True).wait_for()
