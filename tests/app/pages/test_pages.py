"""Every page: found and not found, empty and not yet, and the forms that change something."""

from __future__ import annotations

import html
import io
import re

import pytest

from app.db.tables import JobStatus
from app.pages.parts.numbers import MINUS
from app.services.datasets import datasets
from app.services.pairs import pairs
from app.services.runs import jobs, runs, workers
from app.services.scorings import scorings
from engine.types import Progress
from tests.app import factories
from tests.conftest import ORIGIN


def get(client, path, status=200):
    answer = client.get(path)
    assert answer.status_code == status, answer.text[:500]
    return answer.text


def sorted_keys(page):
    return re.findall(r'<th scope="row" title="([^"]*)"', page)


# ---------------------------------------------------------------------------------------------- everywhere


def test_every_page_has_a_title_and_no_inline_style_or_script(browser_client, world):
    paths = [
        "/",
        "/datasets/new",
        f"/datasets/{world.dataset_id}",
        f"/datasets/{world.dataset_id}/score",
        f"/datasets/{world.unscored_id}",
        f"/pairs/{world.pair_ids[0]}",
        f"/pairs/{world.unscored_pair_id}",
        "/runs",
        f"/runs/{world.run_id}",
        "/models",
        "/playground",
        "/settings",
        "/login",
        "/patterns",
    ]
    for path in paths:
        page = get(browser_client, path)
        assert re.search(r"<title>[^<]+ · RewardScope</title>", page), path
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", page), path
        scripts = re.findall(r"<script(?![^>]*\bsrc=)([^>]*)>", page)
        assert all("application/json" in attributes for attributes in scripts), path


@pytest.mark.parametrize(
    "path",
    ["/datasets/999", "/datasets/999/score", "/pairs/999", "/runs/999", "/runs/999/status", "/nowhere"],
)
def test_what_does_not_exist_is_a_page_that_says_so(browser_client, path):
    page = get(browser_client, path, 404)
    assert "<title>Not" in page
    assert "data-detail" in page


def test_a_stranger_is_led_to_the_sign_in(anonymous, world):
    answer = anonymous.get(
        f"/pairs/{world.pair_ids[0]}", headers={"Accept": "text/html"}, follow_redirects=False
    )
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login?next=%2Fpairs")


def test_the_right_token_signs_in_and_leads_on(anonymous, settings):
    token = settings.token.get_secret_value()
    wrong = anonymous.post(
        "/login", data={"token": "wrong", "next": "/runs"}, headers={"Accept": "text/html"}
    )
    assert wrong.status_code == 401
    assert "not the server&#39;s token" in wrong.text
    right = anonymous.post("/login", data={"token": token, "next": "/runs"}, follow_redirects=False)
    assert (right.status_code, right.headers["location"]) == (303, "/runs")
    assert anonymous.get("/runs").status_code == 200


def test_signing_in_never_leads_to_another_site(anonymous, settings):
    data = {"token": settings.token.get_secret_value(), "next": "//elsewhere.example/"}
    assert anonymous.post("/login", data=data, follow_redirects=False).headers["location"] == "/"


# ---------------------------------------------------------------------------------------------- home


def test_without_data_home_offers_the_demo(browser_client):
    page = get(browser_client, "/")
    assert "Load the demo" in page
    assert "No worker is there" in page


def test_while_the_demo_is_made_home_shows_how_far_it_is(browser_client, database):
    browser_client.post("/demo")
    page = get(browser_client, "/")
    assert "Load the demo" not in page
    assert "The demo waits for a worker" in page
    answer = browser_client.get("/start")
    assert "HX-Refresh" not in answer.headers
    assert answer.text.strip() in page
    with database.session() as session:
        factories.make_dataset(session)
    assert browser_client.get("/start").headers["HX-Refresh"] == "true"


def test_home_lists_data_runs_models_and_workers(browser_client, world, database):
    with database.session() as session:
        workers.beat(session, name="w1", host="h", pid=1, version="0", device="cpu", queues=["default"])
    page = get(browser_client, "/")
    for shown in ("capitals", "bare", "policy", "w1", "succeeded"):
        assert shown in page
    assert "No worker is there" not in page


def test_the_demo_button_leads_to_its_run(browser_client):
    answer = browser_client.post("/demo", follow_redirects=False)
    assert answer.status_code == 303
    again = browser_client.post("/demo", follow_redirects=False)
    assert again.headers["location"] == answer.headers["location"]
    assert "waits for a worker" in get(browser_client, answer.headers["location"])


def test_home_says_what_to_do_next_and_what_the_queue_holds(browser_client, world, database):
    with database.session() as session:
        jobs.submit(session, kind="scoring", name="waits", request={})
    page = get(browser_client, "/")
    steps = re.findall(r'<li><a href="([^"]+)"><b>([^<]+)</b>', page)
    assert [label for _, label in steps] == [
        "Score bare",
        "Read the contradicting pairs",
        "Compare granularities",
    ]
    for address, _ in steps:
        get(browser_client, html.unescape(address))
    assert "0 running, 1 waiting" in page
    assert 'href="/queue"' in page


def test_the_refresh_of_home_is_what_the_page_includes(browser_client, world):
    fragment = get(browser_client, "/activity")
    assert "<html" not in fragment
    assert 'id="activity"' in fragment
    assert "capitals" in fragment


# ---------------------------------------------------------------------------------------------- data set


def test_a_scored_data_set_shows_numbers_and_conflict(browser_client, world):
    page = get(browser_client, f"/datasets/{world.dataset_id}")
    assert 'aria-sort="descending"' in page
    assert "3 pairs" in page
    assert "Implicit reward" in page
    assert "AUROC" in page
    assert "&lt;Paris&gt;" in page


def test_an_unscored_data_set_invites_to_score(browser_client, world):
    page = get(browser_client, f"/datasets/{world.unscored_id}")
    assert "Not scored yet" in page
    assert "Conflict" not in page
    assert "pair-2" in page


def test_a_run_that_scored_something_is_shown_rather_than_a_newer_one_that_did_not(
    browser_client, database, settings
):
    with database.session() as session:
        dataset = factories.make_dataset(session, 4)
        begun = factories.make_run(session, settings, dataset)
        attempt = factories.claim(session, begun)
        scorings.store(session, begun, attempt, factories.make_chunk(session, begun, 0, 2))
        jobs.cancel(session, factories.make_run(session, settings, dataset).id)
        dataset_id, begun_id = dataset.id, begun.id
    page = get(browser_client, f"/datasets/{dataset_id}")
    assert f"Run {begun_id} is running" in page
    assert len(sorted_keys(page)) == 2


def test_the_table_sorts_both_ways(browser_client, world):
    down = sorted_keys(get(browser_client, f"/datasets/{world.dataset_id}?sort=position&descending=1"))
    up = sorted_keys(get(browser_client, f"/datasets/{world.dataset_id}?sort=position&descending=0"))
    assert down == up[::-1] == ["pair-2", "pair-1", "pair-0"]


def test_filters_leave_pairs_out_and_can_be_cleared(browser_client, world):
    page = get(browser_client, f"/datasets/{world.dataset_id}?q=Question+2&min_tokens=&max_tokens=")
    assert sorted_keys(page) == ["pair-2"]
    none = get(browser_client, f"/datasets/{world.dataset_id}?q=nothing+like+it")
    assert "No pair passes these filters" in none
    assert "Clear the filters" in none


def test_a_filter_that_is_no_number_is_named(browser_client, world):
    assert "min_margin" in get(browser_client, f"/datasets/{world.dataset_id}?min_margin=much", 422)


def test_the_table_goes_on_page_by_page(browser_client, database, settings):
    with database.session() as session:
        run = factories.make_scored_run(session, settings, 60)
    seen, path = [], f"/datasets/{run.dataset_id}?rows=25"
    while path:
        page = get(browser_client, path)
        seen += sorted_keys(page)
        following = re.search(r'href="([^"]*)" rel="next"', page)
        path = following.group(1).replace("&amp;", "&") if following else None
    assert len(seen) == len(set(seen)) == 60


def test_a_data_set_is_brought_in_by_a_file(browser_client):
    rows = b'{"prompt": "p", "chosen": "a", "rejected": "b"}\n'
    answer = browser_client.post("/datasets", files={"file": ("mine.jsonl", io.BytesIO(rows))})
    assert answer.status_code == 200
    assert "<h1>mine</h1>" in answer.text


def test_a_data_set_is_brought_in_by_a_path(browser_client, tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    answer = browser_client.post("/datasets", data={"folder": str(tmp_path / "mine.jsonl"), "name": "Named"})
    assert "<h1>Named</h1>" in answer.text


def test_bad_rows_are_listed_and_nothing_is_stored(browser_client, database):
    rows = b'{"prompt": "p", "chosen": "a", "rejected": "b"}\n{"prompt": "p", "chosen": 3}\n{"prom\n'
    answer = browser_client.post("/datasets", files={"file": ("bad.jsonl", io.BytesIO(rows))})
    assert answer.status_code == 422
    assert re.findall(r'<td class="num">(\d+)</td>', answer.text) == ["2", "3"]
    with database.session() as session:
        assert datasets.list_datasets(session).items == []


def test_bad_rows_can_be_left_out(browser_client):
    rows = b'{"prompt": "p", "chosen": "a", "rejected": "b"}\n{"prom\n'
    files = {"file": ("some.jsonl", io.BytesIO(rows))}
    answer = browser_client.post("/datasets", files=files, data={"on_error": "skip"})
    assert answer.status_code == 200
    assert "1 row could not be used" in answer.text


def test_an_upload_of_nothing_says_what_to_choose(browser_client):
    answer = browser_client.post("/datasets", data={"name": "x"})
    assert answer.status_code == 422
    assert "Choose a file" in answer.text


def test_a_data_set_is_deleted(browser_client, world):
    answer = browser_client.post(f"/datasets/{world.unscored_id}/delete")
    assert answer.status_code == 200
    get(browser_client, f"/datasets/{world.unscored_id}", 404)


# ---------------------------------------------------------------------------------------------- scoring


def test_a_scoring_is_submitted_and_leads_to_its_run(browser_client, world):
    data = {"policy": "policy", "reference": "reference", "beta": "", "name": "mine"}
    answer = browser_client.post(f"/datasets/{world.unscored_id}/score", data=data)
    assert answer.status_code == 200
    assert "<h1>mine</h1>" in answer.text
    assert "waits for a worker" in answer.text


def test_scoring_again_begins_with_the_models_of_the_last_time(browser_client, world):
    page = get(browser_client, f"/datasets/{world.dataset_id}/score")
    assert 'list="causal-models" value="policy"' in page
    assert 'list="reward-models" value="scorer"' in page


def test_a_scoring_that_cannot_be_is_explained_in_the_form(browser_client, world):
    data = {"policy": "/no/such/folder", "reference": "reference"}
    answer = browser_client.post(f"/datasets/{world.unscored_id}/score", data=data)
    assert answer.status_code in (404, 422)
    assert "data-detail" in answer.text
    assert 'value="/no/such/folder"' in answer.text


# ---------------------------------------------------------------------------------------------- pair


def test_a_pair_shows_both_sides_with_pivots_segments_and_labels(browser_client, world):
    page = get(browser_client, f"/pairs/{world.pair_ids[0]}")
    assert "&lt;Paris&gt;" in page
    assert 'title="wrong city"' in page
    assert "data-p=1" in page
    assert "Conflict mass" in page
    assert 'data-side="rejected"' in page


def test_every_source_tells_its_numbers_of_the_pair_and_keeps_the_table(browser_client, database, settings):
    with database.session() as session:
        run = factories.make_scored_run(session, settings, 2, sources=("implicit", "rm_prefix"))
        pair_id = pairs.list_pairs(session, run.dataset_id).items[0].pair.id
        address = f"/pairs/{pair_id}?run={run.id}&sort=margin&delta=0.7&view=mask"
    page = get(browser_client, address)
    tabs = page.split('<nav class="sources"')[1].split("</nav>")[0]
    assert tabs.count("margin +") + tabs.count(f"margin {MINUS}") + tabs.count("margin 0") == 2
    other = html.unescape(next(link for link in re.findall(r'href="([^"]+)"', tabs) if "rm_prefix" in link))
    assert "sort=margin" in other
    assert "view=mask" in other
    assert "delta" not in other, "another source has a rule of its own"
    assert 'aria-current="true"' in get(browser_client, other)


def test_every_number_and_control_of_a_pair_is_explained(browser_client, world):
    page = get(browser_client, f"/pairs/{world.pair_ids[0]}")
    assert re.findall(r'<span class="sum"(?! title="\w)', page) == []
    assert 'title=""' not in page
    controls = page.split('id="controls"')[1].split("</form>")[0]
    assert re.findall(r'<label for="\w+">', controls) == []
    assert "scaled reward = (reward" in page


def test_a_moved_threshold_recomputes_and_says_its_address(browser_client, world):
    path = f"/pairs/{world.pair_ids[1]}/view?run={world.run_id}&source=implicit&sort=conflict"
    before = browser_client.get(path)
    after = browser_client.get(path + "&delta=50")
    assert "pivots <b>0</b>" not in before.text
    assert after.text.count("pivots <b>0</b>") == 2
    address = after.headers["HX-Replace-Url"]
    assert address.startswith(f"/pairs/{world.pair_ids[1]}?")
    assert "delta=50" in address
    assert get(browser_client, address).count("pivots <b>0</b>") == 2


def test_the_address_of_a_view_opens_the_same_view(browser_client, world):
    path = f"/pairs/{world.pair_ids[1]}/view?run={world.run_id}&segmenter=token&colour=raw&view=mask"
    fragment = browser_client.get(path)
    page = get(browser_client, fragment.headers["HX-Replace-Url"])
    assert fragment.text.strip() in page


def test_a_rule_that_was_tried_on_a_pair_becomes_that_of_the_run(browser_client, world):
    pair = f"/pairs/{world.pair_ids[1]}?run={world.run_id}&source=implicit&sort=conflict"
    assert "own rule</span>" in get(browser_client, pair)
    tried = get(browser_client, f"{pair}&delta=50")
    action = html.unescape(re.search(r'method="post" action="([^"]*/rule[^"]*)"', tried)[1])

    answer = browser_client.post(action, headers={"Origin": ORIGIN}, follow_redirects=False)

    assert answer.status_code == 303
    shown = get(browser_client, answer.headers["location"])
    assert "delta=50" not in answer.headers["location"]
    assert shown.count("pivots <b>0</b>") == 2
    assert "own rule</span>" in shown
    rows = browser_client.get(
        f"/api/v1/datasets/{world.dataset_id}/pairs?run_id={world.run_id}",
        headers={"Accept": "application/json"},
    ).json()
    assert {row["score"]["pivots"] for row in rows["data"]} == {0}


def test_every_segmenter_draws(browser_client, world):
    for name in ("whole", "token", "fixed", "step", "clause", "sentence", "changepoint"):
        get(browser_client, f"/pairs/{world.pair_ids[0]}?segmenter={name}")


def test_a_rule_that_cannot_be_is_refused_by_name(browser_client, world):
    path = f"/pairs/{world.pair_ids[0]}/view?run={world.run_id}&delta=-1"
    assert "delta" in get(browser_client, path, 422)


def test_next_and_previous_follow_the_table(browser_client, world):
    table = f"run={world.run_id}&source=implicit&sort=position&descending=0"
    page = get(browser_client, f"/pairs/{world.pair_ids[1]}?{table}&delta=0.5")
    assert f'rel="prev" href="/pairs/{world.pair_ids[0]}?' in page
    assert f'rel="next" href="/pairs/{world.pair_ids[2]}?' in page
    assert "delta=0.5" in page
    assert "2 of 3" in page


def test_a_pair_that_nobody_scored_shows_its_text(browser_client, world):
    page = get(browser_client, f"/pairs/{world.unscored_pair_id}")
    assert "Paris is the capital." in page
    assert "has not been scored yet" in page


def test_a_pair_that_the_run_has_not_reached_says_so(browser_client, database, settings):
    with database.session() as session:
        run = factories.make_run(session, settings, factories.make_dataset(session, 2))
        dataset_id = run.dataset_id
    page = get(browser_client, f"/datasets/{dataset_id}?sort=position")
    pair = re.search(r'href="(/pairs/\d+[^"]*)"', page).group(1).replace("&amp;", "&")
    assert "has not reached this pair" in get(browser_client, pair)


def test_the_numbers_of_tokens_come_once_as_arrays(browser_client, world):
    path = f"/pairs/{world.pair_ids[1]}/tokens?run={world.run_id}&source=implicit"
    answer = browser_client.get(path)
    assert answer.json()["chosen"]["rewards"] == [1.5, -1.5, -0.5, 4.5, 0.0]
    again = browser_client.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


# ---------------------------------------------------------------------------------------------- runs


def started(database, settings):
    with database.session() as session:
        run = factories.make_run(session, settings, factories.make_dataset(session, 2))
        return run.id, run.job.id, factories.claim(session, run)


def test_an_active_run_refreshes_itself(browser_client, database, settings):
    run_id, job_id, attempt = started(database, settings)
    with database.session() as session:
        jobs.report(session, job_id, attempt, Progress("scoring", 1, 2), message="Half of it.")
    page = get(browser_client, f"/runs/{run_id}")
    assert "every 1s" in page
    assert "Half of it." in page
    assert 'value="50"' in page
    fragment = browser_client.get(f"/runs/{run_id}/status")
    assert fragment.text.strip() in page
    assert "HX-Refresh" not in fragment.headers


def test_a_run_says_what_was_asked_without_what_nobody_reads(browser_client, world):
    page = get(browser_client, f"/runs/{world.run_id}")
    request = page.split("<h2>Request</h2>")[1]
    assert re.findall("<dt>(.*?)</dt>", request)[:4] == ["policy", "reference", "reward model", "sources"]
    assert "implicit (segmenter hysteresis, baseline otsu, scale std)" in request
    assert "fingerprint" not in request


def test_a_run_that_is_over_refreshes_no_more(browser_client, world):
    assert "every 1s" not in get(browser_client, f"/runs/{world.run_id}")
    assert browser_client.get(f"/runs/{world.run_id}/status").headers["HX-Refresh"] == "true"
    assert "Open the pairs" in get(browser_client, f"/runs/{world.run_id}")


def test_a_failed_run_shows_its_sentence_and_a_crashed_one_its_traceback(browser_client, database, settings):
    run_id, job_id, attempt = started(database, settings)
    error = {"code": "x", "detail": "It broke <here>.", "traceback": "Traceback: <b>"}
    with database.session() as session:
        jobs.fail(session, job_id, attempt, JobStatus.crashed, error)
    page = get(browser_client, f"/runs/{run_id}")
    assert "It broke &lt;here&gt;." in page
    assert "<pre>Traceback: &lt;b&gt;</pre>" in page


def test_a_run_is_cancelled_retried_and_deleted(browser_client, database, settings):
    with database.session() as session:
        run_id = factories.make_run(session, settings, factories.make_dataset(session, 2)).id
    assert "cancelled" in browser_client.post(f"/runs/{run_id}/cancel").text
    assert "waits for a worker" in browser_client.post(f"/runs/{run_id}/retry").text
    assert browser_client.post(f"/runs/{run_id}/delete").status_code == 409
    browser_client.post(f"/runs/{run_id}/cancel")
    assert browser_client.post(f"/runs/{run_id}/delete").status_code == 200
    with database.session() as session:
        assert runs.list_runs(session).items == []


def test_without_runs_the_list_says_how_to_begin(browser_client):
    assert "Nothing has run yet" in get(browser_client, "/runs")


# ---------------------------------------------------------------------------------------------- models


def test_a_model_is_registered_and_forgotten(browser_client, tmp_path):
    folder = factories.make_model_folder(tmp_path / "tiny")
    page = browser_client.post("/models", data={"path": str(folder), "name": "tiny-one"}).text
    assert "tiny-one" in page
    forget = re.search(r'action="(/models/\d+/delete)"', page).group(1)
    assert "No model is registered yet" in browser_client.post(forget).text


def test_a_model_that_cannot_be_used_is_explained(browser_client, tmp_path):
    answer = browser_client.post("/models", data={"path": str(tmp_path)})
    assert answer.status_code == 422
    assert "data-detail" in answer.text
