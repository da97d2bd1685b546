"""Addresses that people saved with an earlier release still show what they showed.

They stand here as that release wrote them; none is made by the code under test.
"""

from __future__ import annotations

import html
import json
import re
from urllib.parse import parse_qsl, urlsplit

import pytest

from app.pages.parts.rule_controls import rule_from
from app.services.pairs import pairs
from app.services.trainings import token_maps
from engine.rules import SegmentationRule
from tests.app import factories, traced_runs, trained_runs
from tests.app.pages.scorings.test_playground import TEXTS, do, number, send
from tests.app.tracked import make_tracked_run

OWN = SegmentationRule(baseline="otsu", scale="std")
"""The rule of the source `implicit`, by which the run was cut."""
COPIED = {
    "baseline=otsu&scale=std&aggregate=mean&polarity=signal&neutral=keep&eos=keep&margin=0.0"
    "&segmenter=hysteresis&delta=0.45&min_len=3&smoothing=median": {
        "segmenter": {"name": "hysteresis", "delta": 0.45, "min_len": 3, "smoothing": "median"}
    },
    "baseline=zero&scale=none&aggregate=max_abs&polarity=reward&neutral=keep&eos=keep&margin=0.0"
    "&segmenter=changepoint&min_len=2&penalty=1.5": {
        "segmenter": {"name": "changepoint", "penalty": 1.5, "min_len": 2},
        "baseline": "zero",
        "scale": "none",
        "aggregate": "max_abs",
        "polarity": "reward",
    },
    "segmenter=entropy&threshold=2.25&view=mask&lane=entropy&at=chosen-1": {
        "segmenter": {"name": "entropy", "threshold": 2.25}
    },
    "at=&segmenter=fixed&delta=0.3&length=8&threshold=1.75&penalty=2&language=en&baseline=0.25&scale=0.5"
    "&colour=scaled&neutral=drop&eos=keep&aggregate=mean&polarity=signal&margin=0&min_len=1"
    "&smoothing=none&lane=reward": {
        "segmenter": {"name": "fixed", "length": 8},
        "baseline": 0.25,
        "scale": 0.5,
        "neutral": "drop",
    },
}
"""What stands in an address behind run and source, and what it changes of the run's own rule."""


@pytest.fixture
def scored(database, settings) -> tuple[int, int, int]:
    """A run with every track, its data set, and a pair of it."""
    with database.session() as session:
        rows = [factories.preference_pair(0, "Paris lies on a river.", "Rome lies on a hill.")]
        run = make_tracked_run(session, settings, rows, ("implicit",))
        return run.id, run.dataset_id, pairs.list_pairs(session, run.dataset_id).items[0].pair.id


def get(client, path):
    answer = client.get(path)
    assert answer.status_code == 200, answer.text[:500]
    return answer.text


def expected(changes):
    return SegmentationRule.model_validate(OWN.model_dump() | changes)


def rule_of_page(page):
    """The rule that the link to copy names in full."""
    link = html.unescape(re.search(r'id="copy-link"[^>]*? href="([^"]+)"', page)[1])
    query = dict(parse_qsl(urlsplit(link).query))
    return rule_from(query, SegmentationRule(nothing_kept="zero", soft_tau=0.5))


@pytest.mark.parametrize("query", COPIED)
def test_a_saved_address_of_a_pair(browser_client, scored, query):
    run_id, _, pair_id = scored
    page = get(browser_client, f"/pairs/{pair_id}?run={run_id}&source=implicit&{query}")
    assert rule_of_page(page) == expected(COPIED[query])


def test_a_saved_address_of_a_pair_in_its_table(browser_client, scored):
    run_id, _, pair_id = scored
    page = get(browser_client, f"/pairs/{pair_id}?run={run_id}&sort=conflict&contradicting=true&delta=0.5")
    assert rule_of_page(page) == expected({"segmenter": {"name": "hysteresis", "delta": 0.5}})
    assert f"/datasets/{scored[1]}?run={run_id}&amp;sort=conflict" in page


def test_a_saved_address_of_an_export(browser_client, scored):
    run_id, _, pair_id = scored
    query = (
        "baseline=zero&scale=none&aggregate=mean&polarity=signal&neutral=keep&eos=inherit&margin=0.1"
        "&segmenter=sentence&language=de&format=json"
    )
    document = json.loads(
        get(browser_client, f"/pairs/{pair_id}/export?run={run_id}&source=implicit&{query}")
    )
    changes = {"baseline": "zero", "scale": "none", "eos": "inherit", "margin": 0.1}
    rule = expected(changes | {"segmenter": {"name": "sentence", "language": "de"}})
    assert SegmentationRule.model_validate(document["rule"]) == rule


def test_a_saved_address_of_an_export_as_the_api_writes_it(browser_client, scored):
    run_id, _, pair_id = scored
    rule = (
        "%7B%22segmenter%22%3A%7B%22name%22%3A%22step%22%7D%2C%22baseline%22%3A%22zero%22%2C"
        "%22nothing_kept%22%3A%22zero%22%2C%22soft_tau%22%3A0.5%7D"
    )
    path = f"/pairs/{pair_id}/export?run={run_id}&source=implicit&format=json&rule={rule}"
    found = SegmentationRule.model_validate(json.loads(get(browser_client, path))["rule"])
    assert (found.segmenter.name, found.baseline, found.nothing_kept, found.soft_tau) == (
        "step", "zero", "zero", 0.5,
    )  # fmt: skip


def test_a_saved_address_of_the_playground(browser_client, database, settings):
    with database.session() as session:
        for name in ("policy", "reference"):
            factories.make_model(session, settings, name)
    address = send(browser_client, TEXTS | {"policy": "policy", "reference": "reference"})
    do(database, number(address))
    query = (
        "source=implicit&baseline=zero&scale=none&aggregate=mean&polarity=signal&neutral=keep&eos=keep"
        "&margin=0.0&segmenter=whole&view=mask"
    )
    page = get(browser_client, f"{address}?{query}")
    rule = expected({"segmenter": {"name": "whole"}, "baseline": "zero", "scale": "none"})
    assert rule_of_page(page) == rule


def test_saved_addresses_of_the_table_of_pairs_and_of_a_comparison(browser_client, scored):
    run_id, dataset_id, _ = scored
    table = get(
        browser_client, f"/datasets/{dataset_id}?run={run_id}&sort=margin&descending=false&q=Paris&rows=25"
    )
    assert "pair-0" in table
    assert f'href="/runs/{run_id}"' in get(browser_client, f"/runs/compare?ids={run_id}")


def test_a_saved_address_of_a_token_map(browser_client, database, settings):
    with database.session() as session:
        run = trained_runs.make_training(session, settings)
        trained_runs.go_on(session, run, trained_runs.begin(session, run), 60)
        run_id = run.id
        pair_id = pairs.list_pairs(session, run.dataset_id).items[0].pair.id
    path = f"/runs/{run_id}/pairs/{pair_id}"
    browser_client.post(path, follow_redirects=False)
    with database.session() as session:
        traced_runs.read(session, token_maps.latest(session, run_id, pair_id), [0, 60])
    page = get(browser_client, f"{path}?step=60&at=1")
    assert 'aria-current="step"' in page
