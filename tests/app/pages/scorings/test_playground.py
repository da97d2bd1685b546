"""The playground's pages: before, while and after a text is scored, and when it cannot be."""

from __future__ import annotations

import html
import re

import pytest

from app.db.tables import JobStatus
from app.services.runs import jobs, runs, workers
from app.services.scorings import playground, scores
from engine.formats.rows import row_to_pair
from engine.types import ScoredChunk
from tests.app import factories

TEXTS = {"prompt": "Where is <it>?", "chosen": "Surely in Paris.", "rejected": "In Rome or so."}


@pytest.fixture
def named(database, settings) -> dict[str, str]:
    """Two models, by the names of their roles."""
    with database.session() as session:
        for name in ("policy", "reference"):
            factories.make_model(session, settings, name)
    return {"policy": "policy", "reference": "reference"}


def send(client, form) -> str:
    """The address that a form leads to."""
    answer = client.post("/playground", data=form, follow_redirects=False)
    assert answer.status_code == 303, answer.text[:500]
    return answer.headers["location"]


def number(address) -> int:
    return int(address.rpartition("/")[2])


def do(database, run_id, rewards=factories.by_word_length) -> None:
    """What a worker does with the text."""
    with database.session() as session:
        run = runs.get_run(session, run_id)
        attempt = factories.claim(session, run)
        pair = row_to_pair(run.request["pairs"][0])
        names = [source["name"] for source in run.request["sources"]]
        maps = [
            factories.reward_map(pair, side, dict.fromkeys(names, rewards(pair, side)))
            for side, _ in pair.sides()
        ]
        scores.store(session, run, attempt, ScoredChunk(0, 1, maps))
        jobs.finish(session, run.job.id, attempt, scores.finish(session, run, {}))


def test_the_empty_playground_says_what_it_is_for_and_that_no_worker_is_there(browser_client):
    page = browser_client.get("/playground").text
    assert "Score now" in page
    assert "No worker is there that scores texts" in page
    assert "kept here" in page


def test_a_text_waits_under_an_address_of_its_own_and_is_shown_there_once_it_is_scored(
    browser_client, database, named
):
    address = send(browser_client, TEXTS | named)
    waiting = browser_client.get(address).text
    assert "The text waits for a worker" in waiting
    assert html.escape(TEXTS["prompt"]) in waiting
    fragment = browser_client.get(f"{address}/waiting")
    assert "HX-Refresh" not in fragment.headers
    assert fragment.text.strip() in waiting
    do(database, number(address))
    assert browser_client.get(f"{address}/waiting").headers["HX-Refresh"] == "true"
    page = browser_client.get(address).text
    assert page.count('<article class="side"') == 2
    assert 'class="b' in page
    assert "Change the text or the models" in page
    assert "No worker is there" not in page


def test_the_threshold_moves_the_segments_and_stands_in_the_address(browser_client, database, named):
    address = send(browser_client, TEXTS | named)
    do(database, number(address))
    plain = browser_client.get(f"{address}/view")
    moved = browser_client.get(f"{address}/view?delta=9")
    assert moved.headers["HX-Replace-Url"] == f"{address}?delta=9"
    assert moved.text != plain.text
    page = browser_client.get(f"{address}?delta=9").text
    assert moved.text.strip() in page
    tracks = browser_client.get(f"{address}/tokens").json()
    assert len(tracks["chosen"]["rewards"]) == 4


def test_what_was_scored_last_fills_in_the_models_and_is_listed(browser_client, database, named):
    address = send(browser_client, TEXTS | named)
    do(database, number(address))
    page = browser_client.get("/playground").text
    assert re.search(r'name="policy"[^>]*value="policy"', page)
    assert re.search(r'name="reference"[^>]*value="reference"', page)
    assert f'href="{address}"' in page
    run = browser_client.get(f"/runs/{number(address)}").text
    assert "Open it in the playground" in run


def test_a_conversation_is_a_prompt_too(browser_client, database, named):
    turns = '[{"role": "system", "content": "Be short."}, {"role": "user", "content": "Where?"}]'
    address = send(browser_client, {"prompt": turns, "chosen": "Here.\r\nOr there."} | named)
    do(database, number(address))
    page = browser_client.get(address).text
    assert "System" in page
    assert "Be short." in page
    assert page.count('<article class="side"') == 1
    bad = browser_client.post("/playground", data={"prompt": '[{"role": "user"}]', "chosen": "x"} | named)
    assert bad.status_code == 422
    assert "exactly `role` and `content`" in bad.text


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"chosen": "", "rejected": ""}, "there is none to score"),
        ({"policy": "nobody"}, "nobody"),
        ({"policy": "", "reference": ""}, "Name a policy or a reward model"),
    ],
)
def test_what_cannot_be_scored_is_told_and_what_was_typed_stays(
    browser_client, database, named, change, sentence
):
    answer = browser_client.post("/playground", data=TEXTS | named | change)
    assert answer.status_code == 422
    assert sentence in html.unescape(answer.text)
    assert html.escape(TEXTS["prompt"]) in answer.text
    with database.session() as session:
        assert runs.list_runs(session).total == 0


def test_a_text_that_failed_or_was_cancelled_can_be_sent_again(browser_client, database, named):
    address = send(browser_client, TEXTS | named)
    with database.session() as session:
        run = runs.get_run(session, number(address))
        attempt = factories.claim(session, run)
        error = {"code": "model_unusable", "detail": "The model has no weights."}
        jobs.fail(session, run.job.id, attempt, JobStatus.failed, error)
    page = browser_client.get(address).text
    assert "The model has no weights." in page
    assert "Score now" in page
    other = send(browser_client, TEXTS | named)
    cancelled = browser_client.post(f"{other}/cancel")
    assert "The scoring was cancelled" in cancelled.text


def test_a_live_worker_and_what_comes_before_are_told(browser_client, database, named):
    first = send(browser_client, TEXTS | named)
    second = send(browser_client, TEXTS | named)
    with database.session() as session:
        workers.beat(session, name="w", host="h", pid=1, version="1", device="cpu", queues=["interactive"])
        assert playground.before(session, playground.get_run(session, number(first))) == 0
    page = browser_client.get(second).text
    assert "before it: 1 job" in page
    assert "No worker is there" not in page


def test_a_pair_can_be_taken_to_the_playground(browser_client, world):
    page = browser_client.get(f"/playground?pair={world.pair_ids[0]}").text
    assert "It is &lt;Paris&gt; of course" in page
    assert browser_client.get("/playground?pair=999999").status_code == 404
    assert browser_client.get(f"/playground/{world.run_id}").status_code == 404
