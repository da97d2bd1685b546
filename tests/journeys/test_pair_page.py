"""The pair page under somebody's hands: keys, tracks, differences, maps, sources, and a link."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from app.services.pairs import labels, pairs
from tests.app import factories
from tests.app.tracked import make_tracked_run

pytestmark = pytest.mark.browser

LONG = "Paris is certainly the capital of France and it lies on a river called the Seine .\n"


@pytest.fixture
def address(database, settings):
    """The page of a pair with a long response, under a run of two sources."""
    rows = [
        factories.preference_pair(0, LONG, LONG.replace("Paris", "Rome")),
        factories.preference_pair(1, LONG * 60, LONG * 59 + LONG.replace("Paris", "Rome")),
        factories.preference_pair(2, LONG, LONG.replace("river", "hill")),
    ]
    with database.session() as session:
        run = make_tracked_run(session, settings, rows, ("implicit", "rm_prefix"))
        found = pairs.list_pairs(session, run.dataset_id).items
        return f"/pairs/{found[1].pair.id}?run={run.id}&source=implicit&sort=position"


def focused(page):
    """Text and name of the token with the focus."""
    return page.evaluate(
        "[document.activeElement.textContent, document.activeElement.getAttribute('aria-label')]"
    )


def redrawn(page, key):
    """Presses a key that draws the view anew, and waits for it."""
    page.evaluate("document.getElementById('view').dataset.old = '1'")
    page.keyboard.press(key)
    page.wait_for_function("() => !document.getElementById('view').dataset.old")


def in_sight(page, selector):
    """Waits until an element has come to rest on the screen."""
    page.wait_for_function(
        """(selector) => {
          const box = document.querySelector(selector)?.getBoundingClientRect();
          return box && box.top > 0 && box.bottom < innerHeight;
        }""",
        arg=selector,
    )


def test_a_pair_is_read_by_keys_and_told_by_a_link(watched, chromium, server, address):
    page = watched.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(server.token_url)
    page.goto(server.url + address)
    page.wait_for_load_state("networkidle")

    # A token has a name that tells its reward, and the arrows lead from one to the next.
    page.keyboard.press("l")
    page.keyboard.press("Home")
    expect(page.locator(":focus")).to_have_attribute("aria-label", "Paris, reward 1.5, dropped")
    assert focused(page) == ["Paris", "Paris, reward 1.5, dropped"]
    page.keyboard.press("ArrowRight")
    assert focused(page)[1].startswith("is, reward −1.5")
    inspector = page.locator("#inspector")
    for fact in ("log p −2", "log p reference −2.5", "log-ratio 0.5", "entropy 0.25", "rank 1"):
        inspector.get_by_text(fact, exact=True).wait_for()
    page.wait_for_url(re.compile("at=chosen-1"))

    # Tracks: the view is drawn anew, and neither the token nor its place is lost.
    redrawn(page, "4")
    assert page.locator("#view").get_attribute("data-track") == "entropy"
    expect(page.locator("#view.sequential")).to_have_count(1)
    expect(page.get_by_role("radio", name="Entropy")).to_be_checked()
    assert focused(page)[0] == " is"
    page.get_by_role("radio", name="Rank").check()
    page.wait_for_url(re.compile("lane=rank"))

    # What differs, at the far end of the long response; the map leads there.
    redrawn(page, "d")
    found = page.locator(".response .d").all_text_contents()
    assert [text.strip() for text in found] == ["Paris", "Rome"]
    page.locator(".minimap").first.focus()
    page.keyboard.press("End")
    in_sight(page, ".response[data-side=chosen] i.told")
    inspector.get_by_text("chosen, token 1020").wait_for()
    assert page.locator(".minimap").first.get_attribute("aria-valuenow") == "1020"
    box = page.locator(".minimap").last.bounding_box()
    page.mouse.click(box["x"] + 4, box["y"] + box["height"] / 2)
    inspector.get_by_text(re.compile("rejected, token 5[01]")).wait_for()
    in_sight(page, ".response[data-side=rejected] i.told")

    # No key does anything while somebody types.
    page.get_by_label("Threshold δ").fill("0.4")
    page.wait_for_url(re.compile("delta=0.4"))
    page.get_by_label("Threshold δ").press("m")
    assert "view=mask" not in page.url
    page.locator("h1").click()

    # All sources, the mask, and the help that gives the focus back.
    redrawn(page, "s")
    page.locator(".by-source").nth(1).wait_for()
    page.locator(".strip").first.click()
    in_sight(page, ".by-source i.told")
    page.keyboard.press("m")
    page.wait_for_url(re.compile("view=mask"))
    page.keyboard.press("l")
    held = focused(page)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog").get_by_text("next, previous pivot")).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)
    assert focused(page) == held

    # The link says everything, to somebody who has never been here.
    page.keyboard.press("c")
    page.get_by_text("Copied ✓").wait_for()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(server.url)
    for word in ("lane=rank", "diff=1", "beside=1", "view=mask", "delta=0.4", "source=implicit", "at="):
        assert word in link
    other = chromium.new_context(viewport={"width": 1440, "height": 900}).new_page()
    other.goto(server.token_url)
    other.goto(link)
    other.wait_for_function("() => document.activeElement.matches('.response i')")
    assert focused(other)[0] == held[0]
    expect(other.locator("#view.mask-view.sequential")).to_have_count(1)
    assert other.locator(".response .d").count() == page.locator(".response .d").count()
    other.context.close()

    # The next pair opens in the same way, at no token.
    page.keyboard.press("j")
    page.wait_for_url(lambda url: url.split("?")[0] != (server.url + address).split("?")[0])
    page.wait_for_url(re.compile("lane=rank"))
    assert "at=" not in page.url
    page.keyboard.press("k")
    page.wait_for_url(lambda url: url.split("?")[0] == (server.url + address).split("?")[0])


def test_what_a_pointer_rests_on_stays_told_when_another_part_is_drawn_anew(watched, server, address):
    page = watched.page
    page.goto(server.token_url)
    held = []
    page.route("**/preview?*", lambda route: held.append(route))
    page.goto(server.url + address)
    page.locator(".response i").nth(1).hover()
    told = page.locator("#inspector").get_by_text("log-ratio 0.5", exact=True)
    told.wait_for()
    held[0].continue_()
    page.locator("#preview table").wait_for()
    expect(told).to_be_visible()
    page.mouse.down()
    page.mouse.up()
    page.keyboard.press("w")
    page.locator("#inspector").get_by_text("said to be wrong", exact=True).wait_for()
    expect(told).to_be_visible()


def test_text_that_a_pointer_selects_is_labelled_to_the_letter(watched, server, database, address):
    page = watched.page
    page.goto(server.token_url)
    page.goto(server.url + address)
    page.wait_for_load_state("networkidle")
    tokens = page.locator(".response[data-side=chosen] i")
    assert [tokens.nth(place).text_content() for place in (2, 4)] == [" certainly", " capital"]
    begin, end = tokens.nth(2).bounding_box(), tokens.nth(4).bounding_box()
    page.mouse.move(begin["x"] + begin["width"] / 2, begin["y"] + begin["height"] / 2)
    page.mouse.down()
    page.mouse.move(end["x"] + end["width"] / 2, end["y"] + end["height"] / 2, steps=4)
    page.mouse.up()
    page.locator("#say-what", has_text="chosen, “certainly the capital”").wait_for()
    page.locator("#say button[data-verdict=wrong]").click()
    page.locator(".response i[data-v=wrong]").nth(2).wait_for()
    expect(page.get_by_text("human label")).to_be_visible()
    with database.session() as session:
        pair_id = int(re.search(r"/pairs/(\d+)", address)[1])
        (said,) = labels.labels_of(session, pair_id)
    assert (said.side, said.text, said.verdict) == ("chosen", " certainly the capital", "wrong")
    # A triple click selects up to where the next thing on the page begins, and still means its response.
    page.locator(".response[data-side=rejected] i").nth(3).click(click_count=3)
    page.locator("#say-what", has_text="rejected, “").wait_for()
    page.keyboard.press("Escape")
    page.mouse.move(begin["x"] + begin["width"] / 2, begin["y"] + begin["height"] / 2)
    page.mouse.down()
    page.mouse.move(end["x"] + end["width"] / 2, end["y"] + end["height"] / 2, steps=4)
    page.mouse.up()
    page.locator("#say-what", has_text="chosen, “certainly the capital”").wait_for()
    # The same text is selected once more, so the same key takes the word back.
    page.keyboard.press("w")
    page.locator(".response i[data-v]").first.wait_for(state="detached")


def test_a_label_needs_no_more_than_a_link_or_a_pointer(watched, server, address):
    page = watched.page
    page.goto(server.token_url)
    # A link that names a token, as the reasons of a data set do.
    page.goto(f"{server.url}{address}&at=chosen-3")
    page.locator("#say-what", has_text="chosen, segment").wait_for()
    page.keyboard.press("w")
    page.get_by_text("1 wrong").wait_for()
    page.locator("#say-close").click()
    page.locator("#say").wait_for(state="hidden")
    page.keyboard.press("Control+z")
    page.get_by_text("no labels yet").wait_for()
    # Nothing has the focus: the pointer says what is meant.
    page.reload()
    page.goto(server.url + address)
    page.wait_for_load_state("networkidle")
    page.locator(".response[data-side=rejected] i").nth(2).hover()
    page.keyboard.press("r")
    page.locator(".response[data-side=rejected] i[data-v=right]").first.wait_for()

    # The bars above a response lead to their tokens.
    bars = page.locator(".side .curve").last
    box = bars.bounding_box()
    bars.click(position={"x": box["width"] * 0.5, "y": 10})
    page.locator("#inspector").get_by_text(re.compile("rejected, token 5[01]")).wait_for()


def test_on_a_phone_the_bars_leave_the_end_of_the_page_in_reach(watched, server, address):
    page = watched.page
    page.goto(server.token_url)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(server.url + address)
    page.wait_for_load_state("networkidle")
    page.locator(".response[data-side=chosen] i").nth(2).click()
    page.locator("#say").wait_for()
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    page.get_by_role("link", name="Change it in the playground").click()
    page.get_by_role("heading", name="Playground").wait_for()


def test_single_keys_can_be_switched_off(watched, server, address):
    page = watched.page
    page.goto(server.token_url)
    page.goto(server.url + address)
    page.get_by_role("button", name="Keys").click()
    page.get_by_label("Single keys").uncheck()
    page.get_by_role("button", name="Close").click()
    page.reload()
    page.keyboard.press("m")
    expect(page.locator("#view.mask-view")).to_have_count(0)
    page.locator(".response [tabindex='0']").first.focus()
    page.keyboard.press("ArrowRight")
    assert focused(page)[0] == " is", "arrows are no single characters"


def test_on_paper_lines_say_what_colours_said(watched, server, address):
    page = watched.page
    page.goto(server.token_url)
    page.goto(server.url + address)
    page.emulate_media(media="print")
    border = "(selector) => getComputedStyle(document.querySelector(selector)).borderBottomStyle"
    assert page.evaluate(border, ".response i.b10") == "solid"
    assert page.evaluate(border, ".response :is(.b-4, .b-5, .b-6, .b-7)") == "dotted"
    for selector in ("#controls", "#inspector", ".stepper", ".minimap"):
        expect(page.locator(selector).first).not_to_be_visible()
    expect(page.get_by_text("on paper")).to_be_visible()
