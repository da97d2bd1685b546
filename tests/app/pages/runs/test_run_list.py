"""The list of runs: its filters, and what it does while runs are active."""

from __future__ import annotations

import html
import re

from app.services.runs import jobs, runs
from tests.app import factories


def names(page: str) -> list[str]:
    """The runs of the table."""
    return re.findall(r'<th scope="row"><a href="/runs/\d+" dir="auto">([^<]+)</a>', page)


def submit(database, *wanted: tuple[str, str]) -> list[int]:
    """Queued runs of a kind and a name."""
    with database.session() as session:
        return [jobs.submit(session, kind=kind, name=name, request={}).id for kind, name in wanted]


def test_runs_are_found_by_a_part_of_their_name_kind_and_status(browser_client, database):
    _, second, _ = submit(
        database, ("training", "DPO 100% <b>"), ("training", "rjs"), ("evaluation", "after dpo_x")
    )
    with database.session() as session:
        jobs.cancel(session, second)

    def found(query: str) -> list[str]:
        return names(browser_client.get(f"/runs?{query}").text)

    assert found("") == ["after dpo_x", "rjs", "DPO 100% &lt;b&gt;"]
    assert found("name=dpo") == ["after dpo_x", "DPO 100% &lt;b&gt;"]
    assert found("name=dpo&kind=training") == ["DPO 100% &lt;b&gt;"]
    assert found("name=0%25+%3C") == ["DPO 100% &lt;b&gt;"]
    assert found("name=o_x") == ["after dpo_x"], "an underscore stands for itself"
    assert found("status=cancelled") == ["rjs"]
    empty = browser_client.get("/runs?name=nothing").text
    assert "No run passes these filters." in empty
    assert 'value="nothing"' in empty


def test_the_list_of_a_data_set_is_its_own_and_says_so(browser_client, database, settings):
    with database.session() as session:
        dataset = factories.make_dataset(session, name="mine & yours")
        run = factories.make_run(session, settings, dataset)
        name, dataset_id = run.name, dataset.id
    submit(database, ("training", "another"))
    page = browser_client.get(f"/runs?dataset={dataset_id}").text
    assert [found.replace("&amp;", "&") for found in names(page)] == [name]
    assert "of mine &amp; yours only" in page
    assert browser_client.get("/runs?dataset=99999").status_code == 404


def test_a_page_past_the_end_leads_back_to_the_first(browser_client, database):
    run_ids = submit(database, *[("evaluation", f"run {number}") for number in range(52)])
    page = browser_client.get("/runs").text
    following = html.unescape(re.search(r'href="([^"]*)" rel="next"', page)[1])
    assert len(names(browser_client.get(following).text)) == 2
    with database.session() as session:
        for run_id in run_ids[:2]:
            jobs.cancel(session, run_id)
            runs.delete_run(session, run_id)
    page = browser_client.get(following).text
    assert "The list ends before this page" in page
    assert "Nothing has run yet" not in page


def test_a_filter_that_is_none_is_refused_with_those_there_are(browser_client):
    answer = browser_client.get("/runs?kind=dance")
    assert answer.status_code == 422
    assert "demo, evaluation, inspection, playground, scoring, token_maps, training" in answer.text


def test_the_list_asks_again_only_while_a_run_of_it_is_active(browser_client, database):
    (run_id,) = submit(database, ("training", "waits"))
    assert 'hx-get="/runs?name=wait"' in browser_client.get("/runs?name=wait").text
    with database.session() as session:
        jobs.cancel(session, run_id)
    assert "hx-get" not in browser_client.get("/runs?name=wait").text.split("<main")[1]


def test_the_api_finds_runs_by_a_part_of_their_name(client, database):
    submit(database, ("training", "first"), ("training", "second"))
    found = client.get("/api/v1/runs?name=SEC").json()
    assert [run["name"] for run in found["data"]] == ["second"]
    assert client.get("/api/v1/runs", params={"name": "x" * 201}).status_code == 422
