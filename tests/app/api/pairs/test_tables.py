"""The table of pairs by the API: filters as the page has them, histograms, conflict matrix, saved views."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from app.db.tables import Run
from engine.types import PreferencePair, Response
from tests.app import factories

ROWS = [
    PreferencePair(
        f"pair-{number}",
        "Which river?",
        Response(chosen),
        Response(rejected),
        meta={"part": "adversarial" if number % 2 else "plain"},
    )
    for number, (chosen, rejected) in enumerate(
        [
            ("Wonderful gardens", "so it is"),
            ("so it is", "Wonderful gardens"),
            ("Splendid is it", "no Magnificent is"),
            ("so it goes", "it is"),
        ]
    )
]


@pytest.fixture
def run(database, settings) -> Run:
    """Four pairs, scored by two sources that say the same."""
    with database.session() as session:
        return factories.make_scored_run(session, settings, ROWS, sources=("implicit", "rm_prefix"))


def get(client: TestClient, run: Run, what: str, **params: object):
    answer = client.get(f"/api/v1/datasets/{run.dataset_id}/{what}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_pairs_are_filtered_by_relation_meta_side_and_range(client: TestClient, run: Run) -> None:
    def keys(**params: object) -> list[str]:
        return [row["key"] for row in get(client, run, "pairs", run_id=run.id, **params)["data"]]

    assert keys(relation="contradict") == ["pair-1", "pair-2", "pair-3"]
    assert keys(relation="contradict", meta="part=adversarial") == ["pair-1", "pair-3"]
    assert keys(meta=["part=adversarial"], max_margin=-5) == ["pair-1"]
    assert keys(query="gardens", within="rejected") == ["pair-1"]
    assert keys(source="rm_prefix", against="implicit", relation="contradict") == []
    assert keys(labelled="true") == []
    assert keys(sort="meta.part")[:2] == ["pair-1", "pair-3"]


def test_a_page_of_every_order_is_followed_by_the_next(client: TestClient, run: Run) -> None:
    for sort in ("position", "conflict", "kept_rejected", "meta.part"):
        for descending in (True, False):
            asked = {"run_id": run.id, "sort": sort, "descending": descending, "limit": 1}
            found, cursor = [], None
            while True:
                page = get(client, run, "pairs", **asked, **({"cursor": cursor} if cursor else {}))
                found += [row["key"] for row in page["data"]]
                cursor = page["next_cursor"]
                if cursor is None:
                    break
            assert sorted(found) == [f"pair-{number}" for number in range(4)], (sort, descending)


def test_what_is_filtered_comes_as_a_file(client: TestClient, run: Run) -> None:
    address = f"/api/v1/datasets/{run.dataset_id}/pairs"
    answer = client.get(address, params={"run_id": run.id, "meta": "part=plain", "format": "jsonl"})
    assert [json.loads(line)["key"] for line in answer.text.splitlines()] == ["pair-0", "pair-2"]


def test_histograms_tell_of_all_pairs_and_of_those_that_pass(client: TestClient, run: Run) -> None:
    asked = {"run_id": run.id, "max_margin": 0}
    found = {one["column"]: one for one in get(client, run, "histograms", **asked)["data"]}
    assert set(found) == {"conflict", "margin", "min_reward", "max_reward", "pivots", "tokens"}
    for one in found.values():
        assert len(one["edges"]) == len(one["whole"]) + 1
        assert (sum(one["whole"]), one["missing"]) == (4, 0)
        assert sum(one["selected"]) == get(client, run, "pairs", **asked)["total"]
    assert get(client, run, "histograms")["data"] == []


def test_the_matrix_counts_what_the_lists_hold(client: TestClient, run: Run) -> None:
    matrix = get(client, run, "conflicts", run_id=run.id)["data"]
    assert [(one["source"], one["against"]) for one in matrix] == [
        ("implicit", "preference"),
        ("rm_prefix", "preference"),
        ("rm_prefix", "implicit"),
    ]
    for one in matrix:
        for relation in ("agree", "mixed", "contradict"):
            asked = {"source": one["source"], "against": one["against"], "relation": relation}
            assert get(client, run, "pairs", run_id=run.id, **asked)["total"] == one[relation]


@pytest.mark.parametrize(
    "params",
    [
        {"sort": "meta.city"},
        {"meta": "city=Paris"},
        {"relation": "contradict"},
        {"relation": "perhaps"},
        {"within": "title"},
        {"sort": "length"},
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_field(client: TestClient, run: Run, params: dict) -> None:
    answer = client.get(f"/api/v1/datasets/{run.dataset_id}/pairs", params=params)
    assert answer.status_code == 422
    assert answer.json()["errors"]


def test_a_matrix_of_another_data_sets_run_is_refused(client: TestClient, run: Run, database) -> None:
    with database.session() as session:
        other = factories.make_dataset(session, name="other").id
    answer = client.get(f"/api/v1/datasets/{other}/conflicts", params={"run_id": run.id})
    assert answer.status_code == 422
    assert client.get("/api/v1/datasets/0/conflicts").status_code == 422


def test_views_are_saved_listed_replaced_and_forgotten(client: TestClient, run: Run) -> None:
    address = f"/api/v1/datasets/{run.dataset_id}/views"
    body = {"name": "the worst", "query": {"run": str(run.id), "sort": "conflict"}}
    saved = client.post(address, json=body)
    assert saved.status_code == 201
    assert client.post(address, json={**body, "query": {"sort": "margin"}}).json()["id"] == saved.json()["id"]
    assert [view["query"] for view in client.get(address).json()["data"]] == [{"sort": "margin"}]
    assert client.post(address, json={"name": "", "query": {}}).status_code == 422
    assert client.delete(f"{address}/{saved.json()['id']}").status_code == 204
    assert client.get(address).json()["data"] == []
    assert client.delete(f"{address}/{saved.json()['id']}").status_code == 404
