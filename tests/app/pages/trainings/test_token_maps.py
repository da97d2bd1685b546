"""A pair across the checkpoints of a training: asked for, waited for, looked at step by step."""

from __future__ import annotations

import html
import re

import pytest

from app.db.tables import JobStatus
from app.services.pairs import pairs
from app.services.runs import jobs, runs
from app.services.trainings import token_maps
from tests.app import factories, traced_runs, trained_runs


@pytest.fixture
def training(database, settings):
    """The ids of a training with a checkpoint after step 60, and of the pairs of its data set."""
    with database.session() as session:
        run = trained_runs.make_training(session, settings)
        attempt = trained_runs.begin(session, run)
        trained_runs.go_on(session, run, attempt, 60)
        return run.id, [row.pair.id for row in pairs.list_pairs(session, run.dataset_id).items]


def get(client, path, status=200):
    answer = client.get(path)
    assert answer.status_code == status, answer.text[:500]
    return re.sub(r"\s+", " ", html.unescape(answer.text))


def read(database, training_id, pair_id, steps):
    with database.session() as session:
        traced_runs.read(session, token_maps.latest(session, training_id, pair_id), steps)


def test_the_training_leads_to_pairs_that_are_worth_a_look(browser_client, training):
    run_id, pair_ids = training
    page = get(browser_client, f"/runs/{run_id}")
    assert f'href="/runs/{run_id}/pairs"' in page
    listed = get(browser_client, f"/runs/{run_id}/pairs")
    assert "checkpoints of step 60" in listed
    assert "contradict themselves most" in listed
    assert f"/runs/{run_id}/pairs/{pair_ids[0]}" in listed
    led = browser_client.get(f"/runs/{run_id}/pairs?key=pair-1", follow_redirects=False)
    assert led.headers["location"] == f"/runs/{run_id}/pairs/{pair_ids[1]}"
    assert "no pair with the key `nobody`" in get(browser_client, f"/runs/{run_id}/pairs?key=nobody")


def test_a_pair_is_asked_for_once_and_waited_for(browser_client, training, database):
    run_id, pair_ids = training
    path = f"/runs/{run_id}/pairs/{pair_ids[0]}"
    assert "Not read yet" in get(browser_client, path)
    for _ in range(2):
        answer = browser_client.post(path, follow_redirects=False)
        assert answer.headers["location"] == path
    with database.session() as session:
        assert runs.list_runs(session, kind="token_maps").total == 1
    page = get(browser_client, path)
    assert "waits for a worker" in page
    waiting = browser_client.get(f"{path}/reading")
    assert "HX-Refresh" not in waiting.headers
    read(database, run_id, pair_ids[0], [0, 60])
    assert browser_client.get(f"{path}/reading").headers["HX-Refresh"] == "true"


def test_each_step_colours_the_same_text_by_the_same_scale(browser_client, training, database):
    run_id, pair_ids = training
    path = f"/runs/{run_id}/pairs/{pair_ids[0]}"
    browser_client.post(path)
    read(database, run_id, pair_ids[0], [0, 60])
    last = get(browser_client, path)
    assert "Step 60 of 60" in last
    assert 'max="1"' in last
    assert "b10" in last.split('class="response"')[1]
    first = get(browser_client, f"{path}?step=0")
    assert "As it began" in first
    assert not re.search(r"<i class=.?b", first.split('class="response"')[1].split("</article>")[0])
    assert re.search(r'aria-current="step"><th scope="row" class="num"><a href="[^"]*step=0"', first)
    scales = {re.search(r'class="ramp".*?<b>(.*?)</b>', page).group(1) for page in (first, last)}
    assert len(scales) == 1
    part = browser_client.get(f"{path}/map?at=0")
    assert part.headers["HX-Replace-Url"] == f"{path}?step=0"
    assert re.sub(r"\s+", " ", html.unescape(part.text)).strip() in first


def test_checkpoints_that_came_later_can_be_read_too(browser_client, training, database):
    run_id, pair_ids = training
    path = f"/runs/{run_id}/pairs/{pair_ids[0]}"
    browser_client.post(path)
    read(database, run_id, pair_ids[0], [0, 40])
    page = get(browser_client, path)
    assert "saved more checkpoints since: 60" in page
    assert "Read the pair again" in page


def test_a_reading_that_failed_says_why_and_can_be_tried_again(browser_client, training, database):
    run_id, pair_ids = training
    path = f"/runs/{run_id}/pairs/{pair_ids[0]}"
    browser_client.post(path)
    with database.session() as session:
        run = token_maps.latest(session, run_id, pair_ids[0])
        attempt = factories.claim(session, run)
        jobs.fail(
            session, run.job.id, attempt, JobStatus.failed, {"code": "x", "detail": "The weights are gone."}
        )
    page = get(browser_client, path)
    assert "The weights are gone." in page
    assert "Try again" in page


def test_the_run_of_a_reading_leads_to_its_map(browser_client, training, database):
    run_id, pair_ids = training
    browser_client.post(f"/runs/{run_id}/pairs/{pair_ids[0]}")
    read(database, run_id, pair_ids[0], [0, 60])
    with database.session() as session:
        reading = token_maps.latest(session, run_id, pair_ids[0]).id
    page = get(browser_client, f"/runs/{reading}")
    assert "Open the token map" in page
    assert f'href="/runs/{run_id}/pairs/{pair_ids[0]}"' in page


@pytest.mark.parametrize("path", ["/runs/999/pairs", "/runs/999/pairs/1"])
def test_what_is_not_there_is_said(browser_client, path):
    assert "no training 999" in get(browser_client, path, 404)
