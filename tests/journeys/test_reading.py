"""What a person does first: sign in, find the pairs that contradict themselves, and move the threshold."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from engine.types import Span
from tests.app import factories

pytestmark = pytest.mark.browser


@pytest.fixture
def scored(database, settings):
    """A data set of a few pairs with labels, scored."""
    words = "Paris is certainly the capital of France and it lies on a river called the Seine"
    rows = [
        factories.preference_pair(
            number,
            " ".join(words.split()[number:]),
            " ".join(words.split()[: 12 - number]),
            spans={"rejected": [Span(0, 5, "wrong city", -1.0)]},
        )
        for number in range(6)
    ]
    with database.session() as session:
        return factories.make_scored_run(session, settings, rows).dataset_id


def pivots(page) -> list[str]:
    """The numbers of pivots in the heads of the sides."""
    return [text.split()[-1] for text in page.locator(".side .sum", has_text="pivots").all_inner_texts()]


def test_from_the_token_to_other_pivots(watched, server, scored):
    page = watched.page
    page.goto(server.token_url)
    assert "token" not in page.url
    page.get_by_role("link", name="capitals", exact=True).click()
    page.get_by_role("link", name="Margin").click()
    page.get_by_role("link", name="Conflict").click()
    page.wait_for_url(re.compile("sort=conflict"))
    page.locator("tbody th[scope=row] a").nth(3).click()
    page.wait_for_url(re.compile(r"/pairs/\d+"))
    before = pivots(page)
    assert any(count != "0" for count in before)
    page.get_by_label("Threshold δ").fill("9")
    page.wait_for_url(re.compile(r"delta=9"))
    page.wait_for_function("() => document.querySelectorAll('.response i.p').length === 0")
    assert pivots(page) == ["0", "0"]
    page.reload()
    assert pivots(page) == ["0", "0"]
    page.get_by_role("link", name="Reset").click()
    page.wait_for_function("() => document.querySelectorAll('.response i.p').length > 0")
    assert pivots(page) == before


def test_the_slider_moves_the_number_and_the_pivots(watched, server, scored):
    page = watched.page
    page.goto(server.token_url)
    page.get_by_role("link", name="capitals", exact=True).click()
    page.locator("tbody th[scope=row] a").first.click()
    slider = page.get_by_label("Threshold", exact=True)
    slider.focus()
    slider.press("End")
    page.wait_for_url(re.compile(r"delta=2"))
    expect(page.get_by_label("Threshold δ")).to_have_value("2")


def test_a_slider_that_is_moved_before_the_script_has_come_counts(watched, server, scored):
    page = watched.page
    page.goto(server.token_url)
    held = []
    page.route(re.compile(r"/static/pairs/pair\.js"), lambda route: held.append(route))
    page.get_by_role("link", name="capitals", exact=True).click()
    page.locator("tbody th[scope=row] a").first.click(no_wait_after=True)
    slider = page.get_by_label("Threshold", exact=True)
    slider.press("End")
    expect(slider).to_have_value("2")
    expect(page.get_by_label("Threshold δ")).not_to_have_value("2")
    held[0].continue_()
    page.wait_for_url(re.compile(r"delta=2"))
    expect(page.get_by_label("Threshold δ")).to_have_value("2")


def test_a_token_tells_its_numbers_to_pointer_and_keys(watched, server, scored):
    page = watched.page
    page.goto(server.token_url)
    page.get_by_role("link", name="capitals", exact=True).click()
    page.locator("tbody th[scope=row] a").first.click()
    page.locator(".response i").nth(1).hover()
    inspector = page.locator("#inspector")
    inspector.get_by_text("chosen, token 1").wait_for()
    inspector.get_by_text("reward", exact=False).first.wait_for()
    page.mouse.move(1, 1)
    page.keyboard.press("l")
    assert page.evaluate("document.activeElement.matches('.response i.p')")
    page.keyboard.press("m")
    page.wait_for_url(re.compile("view=mask"))
    expect(page.locator("#view.mask-view")).to_have_count(1)
    page.keyboard.press("?")
    expect(page.locator("dialog[open]")).to_have_count(1)
    page.keyboard.press("Escape")
    first = page.url
    page.keyboard.press("j")
    page.wait_for_url(lambda url: url.split("?")[0] != first.split("?")[0])
    page.wait_for_url(re.compile("view=mask"))
    page.keyboard.press("k")
    page.wait_for_url(lambda url: url.split("?")[0] == first.split("?")[0])


def test_a_rule_that_cannot_be_is_told_and_the_view_stays(watched, server, scored):
    page = watched.page
    page.goto(server.token_url)
    page.get_by_role("link", name="capitals", exact=True).click()
    page.locator("tbody th[scope=row] a").first.click()
    page.get_by_label("Segmenter").select_option("entropy")
    page.locator("#toast").wait_for(state="visible")
    assert "entrop" in page.locator("#toast").inner_text().lower()
    expect(page.locator(".response")).to_have_count(2)
    # The browser itself notes the refused request on its console.
    watched.faults[:] = [fault for fault in watched.faults if "422" not in fault]


def test_the_theme_is_remembered(watched, server):
    page = watched.page
    page.goto(server.token_url)
    page.get_by_label("Switch between light and dark").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.goto(f"{server.url}/runs")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_every_page_keeps_to_this_server(watched, server, scored):
    page = watched.page
    page.goto(server.token_url)
    for path in ("/", f"/datasets/{scored}", "/datasets/new", "/runs", "/models", "/patterns", "/login"):
        page.goto(server.url + path)
        page.wait_for_load_state("networkidle")
        assert page.title().endswith("RewardScope")


def test_reading_works_without_javascript(chromium, server, scored):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(server.token_url)
    page.get_by_role("link", name="capitals", exact=True).click()
    page.locator("tbody th[scope=row] a").first.click()
    page.get_by_label("Threshold δ").fill("9")
    page.get_by_role("button", name="Apply").click()
    page.wait_for_url(re.compile("delta=9"))
    expect(page.locator(".response i.p")).to_have_count(0)
    context.close()
