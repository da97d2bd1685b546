"""The page of a data set: what it counts, what its addresses say, what is saved, exported and left out."""

from __future__ import annotations

import html
import json
import re

import pytest

from app.pages.datasets.table import api_parameters, pair_query, query_parameters
from app.pages.parts.excerpts import Piece, excerpt
from app.services.pairs import pairs, saved_views
from app.services.runs import jobs
from engine.types import PreferencePair, Response
from tests.app import factories

ROWS = [
    PreferencePair(
        f"pair-{number}",
        "Which river?",
        Response(chosen),
        Response(rejected),
        meta={"part": "adversarial" if number % 2 else "plain", "note": f"n, {number}"},
    )
    for number, (chosen, rejected) in enumerate(
        [
            ("Wonderful gardens", "so it is"),
            ("so it is", "Wonderful gardens"),
            ("Splendid is it", "no Magnificent is"),
            ("so it is", "<b>on</b> مرحبا"),
        ]
    )
]


@pytest.fixture
def run(database, settings):
    """Four pairs, scored by two sources that say the same."""
    with database.session() as session:
        return factories.make_scored_run(session, settings, ROWS, sources=("implicit", "rm_prefix"))


def get(client, path, status=200):
    answer = client.get(path)
    assert answer.status_code == status, answer.text[:500]
    return answer.text


def keys(page):
    return re.findall(r'<th scope="row" title="([^"]*)"', page)


def links(page, pattern):
    """Addresses of links whose tag matches."""
    return [html.unescape(one) for one in re.findall(rf'<a {pattern}[^>]*href="([^"]*)"', page)]


def test_every_number_of_the_matrix_leads_to_that_many_pairs(browser_client, run):
    page = get(browser_client, f"/datasets/{run.dataset_id}")
    parts = re.findall(r'<a class="part (\w+)" href="([^"]*)".*?<b>(\d+)</b>', page)
    assert len(parts) == 9
    for relation, address, number in parts:
        table = get(browser_client, html.unescape(address))
        assert len(keys(table)) == int(number), (relation, address)
        if int(number):
            assert f"{number} of 4 pairs" in table or f"{number} pairs" in table
    assert {relation for relation, *_ in parts} == {"contradict", "mixed", "agree"}


def test_a_row_says_why_it_contradicts_and_leads_there(browser_client, run):
    page = get(browser_client, f"/datasets/{run.dataset_id}?relation=contradict&run={run.id}&sort=conflict")
    first = page[page.index("<tbody role") :].split("</tr>")[0]
    assert "Rejected has a good segment" in first
    assert "Chosen has a bad segment" in first
    assert "tokens 0 to 1" in first
    address = html.unescape(re.search(r'<p><a href="([^"]*at=[^"]*)"', first).group(1))
    assert "relation=contradict" in address
    assert get(browser_client, address)


def test_the_refresh_is_what_the_page_includes_and_names_its_address(browser_client, run):
    asked = f"run={run.id}&sort=margin&min_margin=-9.5&max_margin=&q=&rows=25"
    asked += "&columns=margin&columns=meta.part"

    answer = browser_client.get(f"/datasets/{run.dataset_id}/explorer?{asked}")
    assert "<html" not in answer.text
    address = answer.headers["HX-Push-Url"]
    assert "min_margin=-9.5" in address
    assert "max_margin" not in address
    assert answer.text.strip() in get(browser_client, address)


def test_back_takes_filters_away_and_not_each_place_of_a_slider(browser_client, run):
    current = f"/datasets/{run.dataset_id}"
    told = []
    for filters in ("&min_margin=1", "&min_margin=2", "&min_margin=2&max_tokens=90", ""):
        answer = browser_client.get(
            f"/datasets/{run.dataset_id}/explorer?run={run.id}{filters}",
            headers={"HX-Current-URL": f"http://127.0.0.1:8321{current}"},
        )
        (name,) = {"hx-push-url", "hx-replace-url"} & set(answer.headers)
        current = answer.headers[name]
        told.append(name)
    assert told == ["hx-push-url", "hx-replace-url", "hx-push-url", "hx-push-url"]


def test_a_range_that_holds_nothing_is_refused_in_words(browser_client, run):
    path = f"/datasets/{run.dataset_id}?run={run.id}&min_conflict=0.5&max_conflict=0.3"
    told = "Nothing lies above 0.5 and below 0.3: give the lower bound first."
    assert told in get(browser_client, path, 422)


def test_ranges_combine_and_each_can_be_taken_away(browser_client, run):
    page = get(browser_client, f"/datasets/{run.dataset_id}?run={run.id}&max_margin=0&meta.part=adversarial")
    assert sorted(keys(page)) == ["pair-1", "pair-3"]
    assert "Margin up to 0" in page
    chips = links(page, 'class="chip"')
    assert len(chips) == 2
    assert {len(keys(get(browser_client, chip))) for chip in chips} == {2, 3}
    assert re.search(r'<fieldset class="histogram bounded" id="histogram-margin"', page)
    nobody = get(browser_client, f"/datasets/{run.dataset_id}?run={run.id}&min_margin=999")
    assert "No pair passes these filters" in nobody
    assert 'id="histogram-margin"' in nobody, "the range that is too narrow can be moved"


def test_bars_tell_of_all_pairs_and_of_those_shown(browser_client, run):
    page = get(browser_client, f"/datasets/{run.dataset_id}?run={run.id}&relation=contradict")
    assert page.count('<svg class="bars"') == 6
    assert "of 4 pairs" in page
    assert "3 pass the filters" in page


def test_columns_are_chosen_kept_by_links_and_sorted_by(browser_client, run):
    path = f"/datasets/{run.dataset_id}?run={run.id}&columns=meta.note&columns=tokens&columns=nonsense"
    page = get(browser_client, path)
    heads = re.findall(r'role="columnheader"[^>]*>(?:<a[^>]*>)?([^<]*)', page)
    assert heads == ["Pair", "Conflict ↓", "Tokens", "note"], "also what the table is sorted by"
    assert "n, 3" in page
    sorted_by = next(one for one in links(page, "") if "sort=meta.note" in one)
    assert keys(get(browser_client, sorted_by)) == [f"pair-{number}" for number in range(4)]
    pair = next(one for one in links(page, "") if one.startswith("/pairs/"))
    assert "columns=" in pair, "the way back from a pair leads to the same columns"


def test_a_view_is_saved_reopened_and_forgotten(browser_client, run, database):
    path = f"/datasets/{run.dataset_id}"
    query = f"run={run.id}&sort=margin&max_margin=0&columns=margin,meta.part&rows=25"
    saved = browser_client.post(
        f"{path}/views", data={"name": "worst <of> all", "query": query}, follow_redirects=False
    )
    assert saved.status_code == 303
    shown = get(browser_client, saved.headers["location"])
    assert sorted(keys(shown)) == ["pair-1", "pair-2", "pair-3"]
    assert re.search(r'<a href="[^"]*" aria-current="page">worst &lt;of&gt; all</a>', shown)
    plain = get(browser_client, path)
    assert 'aria-current="page">worst' not in plain
    [again] = [one for one in links(plain, "") if "rows=25" in one]
    assert keys(get(browser_client, again)) == keys(shown)
    with database.session() as session:
        [view] = saved_views.list_views(session, run.dataset_id)
    gone = browser_client.post(f"{path}/views/{view.id}/delete", data={"query": query})
    assert "worst" not in gone.text
    assert keys(gone.text) == keys(shown)
    refused = browser_client.post(f"{path}/views", data={"name": " ", "query": query})
    assert refused.status_code == 422


def test_what_is_shown_is_exported(browser_client, run):
    page = get(browser_client, f"/datasets/{run.dataset_id}?run={run.id}&max_margin=0&q=is&within=rejected")
    csv, jsonl = (html.unescape(one) for one in re.findall(r'<a href="(/api/[^"]*)" download>', page))
    rows = [json.loads(line) for line in browser_client.get(jsonl).text.splitlines()]
    assert [row["key"] for row in rows] == keys(page)
    assert len(browser_client.get(csv).text.strip().splitlines()) == len(rows) + 1


def test_a_search_says_where_and_marks_what_it_found(browser_client, run):
    page = get(browser_client, f"/datasets/{run.dataset_id}?q=garden&within=rejected")
    assert keys(page) == ["pair-1"]
    assert "Searched rejected responses" in page
    assert "Wonderful <mark>garden</mark>s" in page
    nothing = get(browser_client, f"/datasets/{run.dataset_id}?q=%3Cb%3E")
    assert "<mark>&lt;b&gt;</mark>on" in nothing


def test_without_a_run_the_rows_can_still_be_filtered_and_sorted_by_their_fields(browser_client, database):
    with database.session() as session:
        dataset = factories.make_dataset(session, ROWS)
        dataset_id = dataset.id
    page = get(browser_client, f"/datasets/{dataset_id}?meta.part=plain&sort=meta.note&descending=1")
    assert keys(page) == ["pair-2", "pair-0"]
    assert "Not scored yet" in page
    assert "<svg class" not in page.split("<main")[1]
    assert get(browser_client, f"/datasets/{dataset_id}?meta.city=Paris", 422)


def test_a_run_that_has_scored_nothing_says_where_to_watch(browser_client, database, settings):
    with database.session() as session:
        run = factories.make_run(session, settings, factories.make_dataset(session))
        dataset_id = run.dataset_id
        run_id = run.id
    page = get(browser_client, f"/datasets/{dataset_id}")
    assert "has not scored any pair yet" in page
    assert f'href="/runs/{run_id}"' in page
    with database.session() as session:
        jobs.cancel(session, run_id)
    page = get(browser_client, f"/datasets/{dataset_id}")
    assert "was cancelled" in page
    assert f"Run {run_id} ended before it had scored a pair" in page


def test_another_source_is_never_held_against_itself(browser_client, run):
    asked = f"run={run.id}&source=implicit&against=implicit&relation=agree"
    page = get(browser_client, f"/datasets/{run.dataset_id}?{asked}")
    assert len(keys(page)) == 4
    assert 'class="chip"' not in page


# ------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"q": "two words", "within": "chosen", "labelled": "1"},
        {"run": "3", "source": "implicit", "sort": "meta.a.b", "descending": "0", "meta.a.b": "x=y & z"},
        {"run": "3", "relation": "mixed", "against": "rm_prefix", "min_margin": "-0.5", "max_tokens": "9"},
        {"columns": "meta.a%2Cb,margin", "rows": "100", "meta.part": "plain"},
    ],
)
def test_an_address_is_read_and_written_back(values):
    query = pair_query(values)
    written = {name: str(value) for name, value in query_parameters(query).items()}
    assert written == values
    assert pair_query(written) == query


def test_the_api_is_asked_the_same():
    query = pair_query({"run": "3", "q": "x", "meta.part": "a=b", "labelled": "0", "rows": "25"})
    assert sorted(api_parameters(query)) == [
        ("labelled", "0"),
        ("meta", "part=a=b"),
        ("query", "x"),
        ("run_id", "3"),
    ]


# -------------------------------------------------------------------------------------------------- excerpts


def test_an_excerpt_begins_with_the_text_or_stands_around_what_was_searched():
    assert excerpt(None, 20) == []
    assert excerpt("short\n text", 20) == [Piece("short text", False)]
    long = "word " * 100 + "needle " + "word " * 100
    pieces = excerpt(long, 60, "NEEDLE")
    assert Piece("needle", True) in pieces
    assert pieces[0].text.startswith("…")
    assert pieces[-1].text.endswith("…")
    assert excerpt("a  b c", 20, "a b") == [Piece("a b", True), Piece(" c", False)]
    assert excerpt("東京は首都です", 20, "首都")[1] == Piece("首都", True)


def test_pairs_of_a_table_are_walked_from_a_pair(database, run):
    with database.session() as session:
        query = pair_query({"run": str(run.id), "relation": "contradict", "columns": "margin"})
        found = pairs.list_pairs(session, run.dataset_id, query).items
        place = pairs.neighbours(session, found[0].pair.id, query)
        assert (place.index, place.total, place.next) == (0, 3, found[1].pair.id)
