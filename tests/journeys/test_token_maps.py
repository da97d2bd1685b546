"""A pair across the checkpoints of a training, in a browser: asked for, waited for, and moved through."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from app.services.pairs import pairs
from app.services.trainings import token_maps
from tests.app import traced_runs, trained_runs

pytestmark = pytest.mark.browser


def test_a_pair_is_read_with_every_checkpoint_and_moved_through_by_keys(watched, server, database, settings):
    with database.session() as session:
        run = trained_runs.make_training(session, settings)
        attempt = trained_runs.begin(session, run)
        trained_runs.go_on(session, run, attempt, 30)
        trained_runs.go_on(session, run, attempt, 60)
        training_id = run.id
        pair_id = pairs.list_pairs(session, run.dataset_id).items[0].pair.id
    page = watched.page
    page.goto(server.token_url)
    page.goto(f"{server.url}/runs/{training_id}")
    page.get_by_role("link", name="See a pair’s tokens move across the checkpoints").click()
    page.get_by_role("link", name="pair-0", exact=True).click()
    page.get_by_role("button", name="Read this pair with every checkpoint").click()
    page.get_by_text("waits for a worker").wait_for()
    with database.session() as session:
        traced_runs.read(session, token_maps.latest(session, training_id, pair_id), [0, 30, 60])

    # Nobody reloads: the map stands there once it is read, at its last step.
    step = page.get_by_role("slider", name="Step")
    expect(step).to_have_attribute("aria-valuetext", re.compile("60"))
    heading = page.locator("#token-map [role=status]")
    expect(heading).to_have_text(re.compile("Step 60"))
    strongest = page.locator(".response i.b10").count()
    assert strongest > 0
    page.locator(".response[data-side=chosen] i").nth(1).hover()
    page.locator("#inspector").get_by_text(re.compile(r"^reward at this step −?\d")).wait_for()
    step.focus()
    page.keyboard.press("ArrowLeft")
    expect(heading).to_have_text(re.compile("Step 30"))
    expect(page.locator("tr[aria-current] th")).to_have_text("30")
    expect(page.locator(".response i.b10")).to_have_count(0)
    page.keyboard.press("Home")
    expect(heading).to_have_text(re.compile("As it began|Step 0"))
    assert page.evaluate("document.activeElement.id") == "at"

    # A row of the table leads there too, and the slider follows; playing ends at the last step.
    page.locator(".steps-table").get_by_role("link", name="30", exact=True).click()
    expect(step).to_have_attribute("aria-valuetext", re.compile("30"))
    page.get_by_role("button", name="Play").click()
    expect(heading).to_have_text(re.compile("Step 60"))
    expect(page.get_by_role("button", name="Play")).to_have_attribute("aria-pressed", "false")
    page.get_by_role("link", name="the pair’s page").click()
    page.get_by_role("link", name=re.compile("^Change it in the playground")).wait_for()
