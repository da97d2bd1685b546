"""What stands beside a pair: labels, and what training would see."""

from __future__ import annotations

import json
import re

import pytest

from app.services.pairs import labels, pairs
from engine.types import Span
from tests.app import factories

HTML = {"Accept": "text/html"}
PARTIAL = {**HTML, "HX-Request": "true"}


@pytest.fixture
def address(database, settings):
    """The pages of a pair that a run with log-probabilities has scored."""
    rows = [
        factories.preference_pair(
            0,
            "It is <Paris> of course",
            "مرحبا Rome 👍",
            spans={"rejected": [Span(6, 10, "wrong city", -1.0)]},
        )
    ]
    with database.session() as session:
        run = factories.make_scored_run(session, settings, rows, logprobs=True)
        pair = pairs.list_pairs(session, run.dataset_id).items[0].pair
        return f"/pairs/{pair.id}", f"run={run.id}", pair.id, run.dataset_id


def test_without_a_script_a_label_leads_back_to_the_page_that_shows_it(client, database, address):
    path, query, pair_id, _ = address
    page = client.get(f"{path}/labels?{query}&delta=0.1", headers=HTML)
    button = re.search(r'value="(rejected:\d+:\d+:wrong)"', page.text).group(1)

    answer = client.post(
        f"{path}/labels?{query}&delta=0.1", data={"say": button}, headers=HTML, follow_redirects=False
    )

    assert answer.status_code == 303
    assert answer.headers["location"] == f"{path}?{query}&delta=0.1"
    shown = client.get(answer.headers["location"], headers=HTML).text
    assert "✘ 1 wrong" in shown
    assert "data-v=wrong data-b" in shown
    with database.session() as session:
        assert [label.verdict for label in labels.labels_of(session, pair_id)] == ["wrong"]


def test_a_script_gets_the_panel_alone(client, address):
    path, query, _, _ = address

    answer = client.post(f"{path}/labels?{query}", data={"say": "chosen:0:5:right"}, headers=PARTIAL)

    assert answer.text.startswith('<section id="labels"')
    assert "✔ 1 right" in answer.text
    undone = client.post(f"{path}/labels/undo?{query}", headers=PARTIAL).text
    assert "no labels yet" in undone
    assert "✔ 1 right" in client.post(f"{path}/labels/redo?{query}", headers=PARTIAL).text


@pytest.mark.parametrize("say", ["", "chosen:0:5:maybe", "chosen:5:5:right", "chosen:0:9999:right"])
def test_a_label_of_nothing_is_refused(client, address, say):
    path, query, _, _ = address

    assert client.post(f"{path}/labels?{query}", data={"say": say}, headers=HTML).status_code == 422


def test_undo_with_nothing_to_undo_only_shows_the_page(client, address):
    path, query, _, _ = address

    assert client.post(f"{path}/labels/undo?{query}", headers=PARTIAL).status_code == 200


def test_the_labels_of_a_data_set_lead_to_their_pairs(client, database, address):
    path, _, pair_id, dataset_id = address
    assert "No labels yet" in client.get(f"/datasets/{dataset_id}/labels", headers=HTML).text

    with database.session() as session:
        labels.paint(session, pair_id, "chosen", 6, 13, "unsure")

    page = client.get(f"/datasets/{dataset_id}/labels", headers=HTML).text
    assert f'href="{path}"' in page
    assert "&lt;Paris&gt;" in page
    assert "format=csv" in page


def test_the_preview_says_what_every_density_would_see(client, address):
    path, query, _, _ = address

    part = client.get(f"{path}/preview?{query}", headers=PARTIAL).text
    page = client.get(f"{path}/preview?{query}&delta=0.9", headers=HTML).text

    assert re.findall(r'<th scope="row"[^>]*>(\w+)', part) == ["Sample", "Step", "Token", "Segment"]
    assert "As shown" in page
    assert "<title>" in page
    assert "<title>" not in part


def test_the_pair_page_waits_with_the_preview_and_links_to_it(client, address):
    path, query, _, _ = address

    page = client.get(f"{path}?{query}", headers=HTML).text

    assert 'hx-trigger="load' in page
    assert f'href="{path}/preview?{query}' in page


def test_the_json_file_holds_what_is_shown(client, database, address):
    path, query, pair_id, _ = address
    with database.session() as session:
        labels.paint(session, pair_id, "rejected", 6, 10, "wrong")

    answer = client.get(f"{path}/export?{query}&delta=0.9&format=json", headers=HTML)

    assert "attachment" in answer.headers["content-disposition"]
    found = answer.json()
    assert found["rule"]["segmenter"]["delta"] == 0.9
    assert [(label["text"], label["verdict"]) for label in found["labels"]] == [("Rome", "wrong")]
    rejected = found["sides"][1]
    assert rejected["spans"][0]["label"] == "wrong city"
    tokens = len(rejected["tokens"])
    for track in ("offsets", "logprobs", "reference_logprobs", "scaled_rewards", "mask", "weights", "signal"):
        assert len(rejected[track]) == tokens, track
    assert rejected["segments"][0]["start"] == 0
    assert rejected["segments"][-1]["end"] == tokens
    api = client.get(
        f"/api/v1{path}/export", params={"run": query.removeprefix("run="), "rule": json.dumps(found["rule"])}
    )
    assert api.json() == found


def test_the_html_file_runs_nothing_and_names_no_address(client, address):
    path, query, _, _ = address

    text = client.get(f"/api/v1{path}/export?{query}&format=html", headers=HTML).text

    assert not re.search(r"<(script|img|iframe)|src=|url\(|@import|https?:", text)
    assert re.findall(r'href="([^"]*)"', text) == ["data:,"]
    assert "&lt;Paris&gt;" in text
    assert "default-src 'none'" in text


@pytest.mark.parametrize("door", ["/api/v1", ""])
def test_a_rule_that_is_none_is_refused(client, address, door):
    path, query, _, _ = address

    assert client.get(f"{door}{path}/export?{query}&rule=%7B%22delta%22%3A").status_code == 422


def test_a_pair_that_no_run_scored_has_no_panel(client, database, address):
    with database.session() as session:
        bare = factories.make_dataset(session, 1, "bare")
        pair_id = pairs.list_pairs(session, bare.id).items[0].pair.id

    page = client.get(f"/pairs/{pair_id}", headers=HTML).text

    assert 'id="labels"' not in page
    assert client.get(f"/pairs/{pair_id}/labels", headers=HTML).status_code == 422
