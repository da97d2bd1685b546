"""From contradicting pairs to a model that was trained without them, all of it through the pages: two models
of one's own, and a real worker for scoring, training and the checkpoints."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.app import factories
from tests.engine.training import worlds
from tests.journeys.test_scoring import register, score

pytestmark = pytest.mark.browser


def work(worker) -> None:
    """Does all that waits."""
    while worker.run_once():
        pass


def test_from_a_scored_data_set_to_a_trained_model(watched, server, database, worker, model_folder):
    with database.session() as session:
        factories.make_dataset(session, worlds.pairs(8), "sums")
    page = watched.page
    page.context.set_default_timeout(30_000)
    page.goto(server.token_url)
    register(page, model_folder("llama", 0), "base")
    register(page, model_folder("llama", 1), "scorer")
    score(page, "sums", "scorer", "base")
    work(worker)
    page.get_by_role("link", name="Open the pairs").click()

    # The form knows the scores of the pairs, and says what the mask keeps before anything starts.
    page.get_by_role("link", name="Train", exact=True).click()
    page.get_by_label("Model", exact=True).fill("base")
    page.get_by_label("Steps", exact=True).fill("6")
    page.get_by_label("Batch size", exact=True).fill("4")
    page.get_by_label("Name", exact=True).fill("tuned")
    page.get_by_label("Name", exact=True).blur()
    preview = page.locator("#preview")
    preview.get_by_text("Kept of chosen").wait_for()
    preview.get_by_text("Cut by segmenter hysteresis").wait_for()
    page.get_by_role("button", name="Train").click()
    page.get_by_text("waits for a worker").wait_for()
    address = page.url
    work(worker)

    # Nobody reloads: status, curves and checkpoints come by themselves.
    page.locator(".badge.succeeded").wait_for()
    assert page.url == address
    page.locator("[data-chart=Loss] canvas").wait_for()
    page.wait_for_function("() => document.querySelector('[data-curves]').curves.extent()[1] === 6")
    expect(page.get_by_text(re.compile("wise mask keeps"))).to_be_visible()

    # What it was trained on is seen to move, from the model as it began.
    page.get_by_role("link", name="See a pair’s tokens move across the checkpoints").click()
    page.locator("tbody th a, tbody td a").first.click()
    page.get_by_role("button", name="Read this pair with every checkpoint").click()
    page.get_by_text("waits for a worker").wait_for()
    work(worker)
    expect(page.locator("#token-map [role=status]")).to_have_text("Step 6 of 6")

    # The model is there to be taken away, and to be tried at once.
    page.goto(address)
    page.get_by_role("link", name="Open the model").click()
    page.get_by_role("heading", name="tuned").wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("Download")).click()
    assert download.value.suggested_filename.endswith(".tar")
