"""Labels of people over the API: said, taken back, undone, listed as files, held against the sources."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from app.db.session import Database
from app.db.tables import Run
from app.services.pairs import pairs
from app.settings import Settings
from tests.app import factories


@pytest.fixture
def run(database: Database, settings: Settings) -> Run:
    """Two pairs; long words are good, short ones bad."""
    with database.session() as session:
        return factories.make_scored_run(session, settings, 2)


@pytest.fixture
def pair_id(run: Run, database: Database) -> int:
    with database.session() as session:
        return pairs.list_pairs(session, run.dataset_id or 0).items[0].pair.id


def verdicts(answer: dict) -> list[tuple[str, str, str]]:
    return [(label["side"], label["text"], label["verdict"]) for label in answer["data"]]


def test_a_label_is_said_replaced_removed_and_all_of_it_undone(client: TestClient, pair_id: int) -> None:
    path = f"/api/v1/pairs/{pair_id}/labels"
    assert client.get(path).json() == {"data": [], "can_undo": False, "can_redo": False}
    body = {"side": "rejected", "start": 0, "end": 4, "verdict": "wrong"}
    assert verdicts(client.post(path, json=body).json()) == [("rejected", "Rome", "wrong")]
    said = client.post(path, json={**body, "verdict": "unsure"}).json()
    assert verdicts(said) == [("rejected", "Rome", "unsure")]
    left = client.delete(f"{path}/{said['data'][0]['id']}").json()
    assert (left["data"], left["can_undo"], left["can_redo"]) == ([], True, False)
    assert verdicts(client.post(f"{path}/undo").json()) == [("rejected", "Rome", "unsure")]
    assert verdicts(client.post(f"{path}/undo").json()) == [("rejected", "Rome", "wrong")]
    assert verdicts(client.post(f"{path}/redo").json()) == [("rejected", "Rome", "unsure")]
    assert client.get(path).json()["can_redo"]
    assert client.post(path, json={**body, "verdict": None}).json()["data"] == []


def test_what_cannot_be_said_or_undone_is_told(client: TestClient, pair_id: int) -> None:
    path = f"/api/v1/pairs/{pair_id}/labels"
    beyond = client.post(path, json={"side": "chosen", "start": 3, "end": 99, "verdict": "right"})
    assert (beyond.status_code, beyond.json()["errors"][0]["loc"]) == (422, ["body", "end"])
    nobody = client.post(path, json={"side": "chosen", "start": 0, "end": 1, "verdict": "maybe"})
    assert nobody.status_code == 422
    nothing = client.post(f"{path}/undo")
    assert (nothing.status_code, nothing.json()["code"]) == (409, "nothing_to_undo")
    assert client.delete(f"{path}/12345").status_code == 404


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "parquet"])
def test_the_labels_of_a_data_set_are_a_list_and_a_file(
    client: TestClient, run: Run, pair_id: int, kind: str
) -> None:
    for start, end, verdict in ((0, 5, "right"), (6, 8, "wrong")):
        body = {"side": "chosen", "start": start, "end": end, "verdict": verdict}
        client.post(f"/api/v1/pairs/{pair_id}/labels", json=body)
    answer = client.get(f"/api/v1/datasets/{run.dataset_id}/labels?format={kind}")
    assert answer.status_code == 200
    if kind == "json":
        assert [label["text"] for label in answer.json()["data"]] == ["is", "Paris"]
        only = client.get(f"/api/v1/datasets/{run.dataset_id}/labels?verdict=wrong").json()["data"]
        assert [label["text"] for label in only] == ["is"]
    if kind == "jsonl":
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert [(line["pair_key"], line["verdict"]) for line in lines] == [
            ("pair-0", "wrong"),
            ("pair-0", "right"),
        ]
    if kind == "csv":
        assert answer.text.splitlines()[0].startswith("id,pair_id,pair_key,side,start,end,verdict,text")


def test_sources_agree_with_people_as_far_as_people_spoke(client: TestClient, run: Run, pair_id: int) -> None:
    path = f"/api/v1/runs/{run.id}/agreement"
    assert client.get(path).json()[0]["auroc"] is None
    for start, end, verdict in ((0, 5, "right"), (6, 8, "wrong")):
        body = {"side": "chosen", "start": start, "end": end, "verdict": verdict}
        client.post(f"/api/v1/pairs/{pair_id}/labels", json=body)
    assert client.get(path).json() == [
        {
            "source": "implicit",
            "auroc": 1.0,
            "low": None,
            "high": None,
            "wrong_tokens": 1,
            "right_tokens": 1,
        }
    ]
    assert client.get("/api/v1/runs/999/agreement").status_code == 404
