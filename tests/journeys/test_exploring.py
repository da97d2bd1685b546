"""Finding the contradicting pairs of a run: brush a histogram, open a number of the matrix, keep the view."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.app import factories

pytestmark = pytest.mark.browser


@pytest.fixture
def explored(database, settings):
    """Thirty pairs of growing length by two sources."""
    text = "Paris is certainly the capital of France and it lies on a river called the Seine"
    words = text.split()
    rows = [
        factories.preference_pair(number, " ".join(words[: 3 + number % 12]), " ".join(words[number % 9 :]))
        for number in range(30)
    ]
    with database.session() as session:
        run = factories.make_scored_run(session, settings, rows, sources=("implicit", "rm_prefix"))
        return run.dataset_id


def test_from_a_brush_to_a_saved_view(watched, server, explored):
    page = watched.page
    page.goto(server.token_url)
    page.goto(f"{server.url}/datasets/{explored}")
    rows = page.locator(".pairs-table tbody tr")
    expect(rows).to_have_count(30)

    # By keys: the lower handle of the tokens goes up, and keeps the focus.
    page.locator("#low-tokens").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_url(re.compile("min_tokens="))
    page.wait_for_function("() => document.querySelectorAll('.pairs-table tbody tr').length < 30")
    assert page.evaluate("document.activeElement.id") == "low-tokens"
    by_keys = rows.count()

    # By pointer: the right half of the margins, on top of it.
    picture = page.locator("#histogram-margin svg")
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.98, box["y"] + 20, steps=4)
    page.mouse.up()
    page.wait_for_url(re.compile("min_margin="))
    page.locator(".chip", has_text="Margin").wait_for()
    assert rows.count() <= by_keys

    # Back takes the last filter away, and forward brings it again: both are states of one's own making.
    page.go_back()
    expect(page.locator(".chip", has_text="Margin")).to_have_count(0)
    page.locator(".chip", has_text="Tokens").wait_for()
    page.go_forward()
    page.locator(".chip", has_text="Margin").wait_for()

    # A number of the matrix leads to its pairs, which stand in sight.
    part = page.locator(".part.contradict").first
    number = int(part.locator("b").inner_text())
    part.click()
    page.wait_for_url(re.compile("relation=contradict"))
    page.wait_for_load_state()
    expect(rows).to_have_count(number)
    expect(rows.first).to_be_in_viewport()

    # A text that nothing has is told as such, by the bars too.
    page.get_by_label("Text", exact=True).fill("qqqqzzz")
    page.get_by_role("button", name="Filter", exact=True).click()
    page.locator("#total", has_text="0 of 30 pairs").wait_for()
    page.get_by_text("Full bars are the pairs shown").wait_for()
    page.go_back()
    expect(rows).to_have_count(number)

    # Without any column the usual ones stand there, in the boxes too.
    page.get_by_text("Columns and rows").click()
    boxes = page.locator("[name=columns]:checked")
    for _ in range(boxes.count()):
        with page.expect_response("**/explorer?*"):
            boxes.first.uncheck()
    expect(boxes).not_to_have_count(0)

    page.locator("#save-view summary").click()
    page.get_by_label("Name of this view").fill("contradicting")
    page.get_by_role("button", name="Save", exact=True).click()
    page.goto(f"{server.url}/datasets/{explored}")
    page.get_by_role("link", name="contradicting", exact=True).click()
    page.wait_for_url(re.compile("relation=contradict"))
    expect(rows).to_have_count(number)
