"""The page of a data set: histograms, the matrix of conflicts, reasons, columns, saved views, exports."""

from __future__ import annotations

import html
import re

import pytest

from rewardscope.engine.types import PreferencePair, Response
from tests.app import factories

ORIGIN = "http://127.0.0.1:8321"


@pytest.fixture
def explored(database, settings):
    """Address of a data set of six pairs by two sources, with meta data and an ugly text."""
    rows = [
        PreferencePair(
            f"pair-{number}",
            "Which river?",
            Response("Splendid gardens so in it"),
            Response("<b>Magnificent</b> قصر الحمراء 灯台の光" if number % 2 else "of a Wonderful house"),
            meta={"part": "adversarial" if number % 2 else "plain", "hops": number},
        )
        for number in range(6)
    ]
    with database.session() as session:
        run = factories.make_scored_run(session, settings, rows, sources=("implicit", "rm_prefix"))
        return f"/datasets/{run.dataset_id}"


def read(client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return html.unescape(answer.text)


def keys(page: str) -> list[str]:
    return re.findall(r'<th scope="row" title="([^"]*)"', page)


def test_every_number_of_the_matrix_leads_to_as_many_pairs(browser_client, explored):
    page = read(browser_client, explored)
    parts = re.findall(r'<a class="part \w+" href="([^"]*)".*?<b>(\d+)</b>', page)
    assert parts
    for address, number in parts:
        assert len(keys(read(browser_client, address))) == int(number)


def test_a_contradicting_pair_says_which_segment_and_leads_to_it(browser_client, explored):
    page = read(browser_client, explored)
    assert "Chosen has a bad segment" in page
    address = re.search(r'<a href="(/pairs/[^"]*at=chosen-\d+[^"]*)"', page)
    assert address is not None
    read(browser_client, address.group(1))


def test_filters_combine_and_each_can_be_taken_away(browser_client, explored):
    asked = f"{explored}?sort=position&meta.part=adversarial&q=magnificent&within=rejected&min_tokens=1"
    page = read(browser_client, asked)
    assert keys(page) == ["pair-1", "pair-3", "pair-5"]
    assert "<mark>Magnificent</mark>" in page
    assert page.count('class="chip"') == 3
    without = re.search(r'class="chip"[^>]*href="([^"]*)"[^>]*>\s*<span[^>]*>[^<]*part[^<]*adversarial', page)
    assert without is not None
    assert "meta.part" not in without.group(1)
    assert keys(read(browser_client, f"{explored}?q=magnificent&within=chosen")) == []


def test_columns_and_rows_are_kept_in_the_address(browser_client, explored):
    page = read(browser_client, f"{explored}?columns=margin&columns=meta.hops&rows=25")
    headings = re.findall(r'role="columnheader"[^>]*>(?:<a [^>]*>)?([^<]*)', page)
    assert [heading.split()[0] for heading in headings] == ["Pair", "Conflict", "Margin", "hops"]
    assert "rows=25" in page
    assert read(browser_client, f"{explored}?rows=nonsense&columns=nothing")


def test_a_view_is_saved_reopened_and_forgotten(browser_client, explored):
    form = {"name": "the worst", "query": "sort=margin&meta.part=adversarial"}
    answer = browser_client.post(
        f"{explored}/views", data=form, headers={"Origin": ORIGIN}, follow_redirects=False
    )
    assert answer.status_code == 303
    page = read(browser_client, answer.headers["location"])
    assert len(keys(page)) == 3
    view = re.search(r'<a href="([^"]*)"[^>]*>the worst</a><form method="post" action="([^"]*)"', page)
    assert view is not None
    assert keys(read(browser_client, view.group(1))) == keys(page)
    browser_client.post(view.group(2), headers={"Origin": ORIGIN})
    assert "the worst</a>" not in read(browser_client, explored)


def test_what_is_shown_can_be_taken_along(browser_client, explored):
    page = read(browser_client, f"{explored}?meta.part=adversarial")
    files = re.findall(r'href="(/api/v1/datasets/[^"]*format=(?:csv|jsonl)[^"]*)"', page)
    assert len(files) == 2
    for address in files:
        assert len(browser_client.get(address).text.strip().splitlines()) in (3, 4)


def test_bars_of_the_selection_stand_before_those_of_all(browser_client, explored):
    page = read(browser_client, f"{explored}?max_margin=-99")
    assert page.count('class="bars"') >= 5
    assert "0 pass the filters" in page
    assert "No pair passes these filters" in page
