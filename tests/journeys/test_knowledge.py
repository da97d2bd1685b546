"""What a person does who knows better: labels segments by keys, takes one back, and carries the pair away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from app.services.pairs import pairs
from tests.app import factories

pytestmark = pytest.mark.browser


@pytest.fixture
def place(database, settings):
    """A pair whose run stored log-probabilities, and its data set."""
    rows = [
        factories.preference_pair(
            number, "Paris is certainly the capital of a large country", "Rome is probably the seat of it"
        )
        for number in range(2)
    ]
    with database.session() as session:
        run = factories.make_scored_run(session, settings, rows, logprobs=True)
        pair = pairs.list_pairs(session, run.dataset_id).items[0].pair
        return f"/pairs/{pair.id}?run={run.id}&source=implicit", run.id, run.dataset_id


def test_segments_are_labelled_by_keys_and_the_pair_is_taken_along(
    watched, chromium, server, place, tmp_path
):
    address, run_id, dataset_id = place
    page = watched.page
    wrong = page.locator(".response i[data-v=wrong]").first
    page.goto(server.token_url)
    page.goto(server.url + address)
    page.locator("#preview table").wait_for()
    assert page.locator("#preview tbody tr").count() >= 4

    # By keys: the segment of the token with the focus, which keeps the focus.
    page.locator(".response[data-side=chosen] i").first.click()
    page.locator("#say").wait_for()
    page.keyboard.press("r")
    page.get_by_text("✔ 1 right").wait_for()
    expect(page.locator(".response[data-side=chosen] i[data-v=right]")).not_to_have_count(0)
    page.keyboard.press("l")
    page.keyboard.press("w")
    page.get_by_text("1 wrong").wait_for()
    assert page.evaluate("document.activeElement.matches('.response i[data-v=wrong]')")

    # Undo and redo; once more the same key takes back.
    page.keyboard.press("Control+z")
    wrong.wait_for(state="detached")
    page.keyboard.press("Control+Shift+Z")
    wrong.wait_for()
    page.keyboard.press("w")
    wrong.wait_for(state="detached")
    page.get_by_role("button", name="Undo").click()
    wrong.wait_for()
    assert page.evaluate("document.activeElement.dataset.say") == "undo"

    # A moved control leaves labels where they are, and the preview follows it.
    page.get_by_label("Segmenter").select_option("whole")
    page.wait_for_url(lambda url: "segmenter=whole" in url)
    wrong.wait_for()
    page.get_by_label("Segmenter").select_option("fixed")
    page.get_by_text("As shown", exact=True).wait_for()

    # Reloaded, the server marks the same.
    marks = page.locator(".response i[data-v]").evaluate_all("all => all.map((each) => each.dataset.v)")
    page.reload()
    again = page.locator(".response i[data-v]").evaluate_all("all => all.map((each) => each.dataset.v)")
    assert again == marks

    # How the source agrees, over labelled tokens only.
    found = page.request.get(f"{server.url}/api/v1/runs/{run_id}/agreement").json()
    assert found[0]["wrong_tokens"] >= 1
    assert found[0]["right_tokens"] >= 1
    page.goto(f"{server.url}/datasets/{dataset_id}/labels")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.locator("tbody th a").first.click()
    page.locator("#labels").wait_for()

    # Both files; the page opens without a network, in a browser that counts every request.
    with page.expect_download() as coming:
        page.get_by_role("link", name="JSON", exact=True).click()
    document = json.loads(Path(coming.value.path()).read_text())
    assert {label["verdict"] for label in document["labels"]} == {"right", "wrong"}
    with page.expect_download() as coming:
        page.get_by_role("link", name="HTML", exact=True).click()
    file = tmp_path / "pair.html"
    coming.value.save_as(file)
    asked: list[str] = []
    faults: list[str] = []
    context = chromium.new_context(offline=True)
    alone = context.new_page()
    alone.on("request", lambda request: asked.append(request.url))
    alone.on("console", lambda message: faults.append(message.text))
    alone.goto(file.as_uri())
    expect(alone.locator(".response")).to_have_count(2)
    expect(alone.locator(".response i[data-v]")).to_have_count(len(marks))
    assert alone.locator("#preview tbody tr").count() >= 4
    alone.get_by_text("Every token of the chosen response").click()
    expect(alone.get_by_role("table", name="Tokens of chosen")).to_be_visible()
    assert (
        alone.evaluate(
            "getComputedStyle(document.querySelector('.response i.p, .response i[class]')).backgroundColor"
        )
        != "rgba(0, 0, 0, 0)"
    )
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    assert faults == []
    context.close()


def test_labels_need_no_script(chromium, server, place):
    address, _, _ = place
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(server.token_url)
    page.goto(server.url + address)
    page.get_by_text("one by one").click()
    page.get_by_role("button", name="wrong: segment 1 of rejected").click()
    expect(page.get_by_text("1 wrong")).to_be_visible()
    expect(page.locator(".response[data-side=rejected] i[data-v=wrong]")).not_to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("no labels yet")).to_be_visible()
    page.get_by_role("link", name="Losses and gradients by granularity").click()
    assert page.locator("#preview tbody tr").count() >= 4
    context.close()
