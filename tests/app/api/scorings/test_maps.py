"""What a run found, over the API: maps that never change, numbers of sources, segments across responses."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from app.db.session import Database
from app.db.tables import Run
from app.settings import Settings
from tests.app.factories import make_scored_run, preference_pair

WORDS = "Paris is the capital."


@pytest.fixture
def run(database: Database, settings: Settings) -> Run:
    """Three pairs; long words are good, short ones bad."""
    with database.session() as session:
        return make_scored_run(session, settings, sources=("implicit", "rm_increment"))


@pytest.fixture
def home(run: Run) -> str:
    return f"/api/v1/runs/{run.id}"


def test_a_map_holds_all_that_scoring_knows(client: TestClient, home: str) -> None:
    first = client.get(f"{home}/maps").json()["data"][0]
    found = client.get(f"{home}/maps/{first['pair_id']}/chosen").json()
    assert found == first
    assert found["text"] == WORDS
    assert found["tokens"] == ["Paris", " is", " the", " capital.", "</s>"]
    assert found["offsets"] == [[0, 5], [5, 8], [8, 12], [12, 21], [21, 21]]
    assert found["token_rewards"]["implicit"] == [1.5, -1.5, -0.5, 4.5, 0.0]
    assert found["totals"]["rm_increment"] == pytest.approx(4.0)
    assert found["logprobs"] is None


def test_a_map_that_one_has_is_not_sent_again(client: TestClient, home: str) -> None:
    pair_id = client.get(f"{home}/maps").json()["data"][0]["pair_id"]
    path = f"{home}/maps/{pair_id}/rejected"
    tag = client.get(path).headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = client.get(path, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    assert client.get(f"{home}/maps/{pair_id}/chosen").headers["etag"] != tag


def test_missing_rewards_are_null(client: TestClient, database: Database, settings: Settings) -> None:
    with database.session() as session:
        run = make_scored_run(
            session, settings, [preference_pair(1)], lambda pair, side: [float("nan"), 1.0, 1.0, 1.0, 1.0]
        )
    answer = client.get(f"/api/v1/runs/{run.id}/maps")
    assert "NaN" not in answer.text
    assert answer.json()["data"][0]["token_rewards"]["implicit"][0] is None


@pytest.mark.parametrize("path", ["maps/999/chosen", "maps/999/rejected"])
def test_a_map_that_is_not_there_is_not_found(client: TestClient, home: str, path: str) -> None:
    assert client.get(f"{home}/{path}").status_code == 404


def test_a_side_that_is_none_is_refused(client: TestClient, home: str) -> None:
    assert client.get(f"{home}/maps/1/best").status_code == 422


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_maps_come_as_files(client: TestClient, home: str, kind: str) -> None:
    answer = client.get(f"{home}/maps", params={"format": kind})
    assert answer.status_code == 200
    if kind == "jsonl":
        assert len([json.loads(line) for line in answer.text.splitlines()]) == 6


def test_sources_say_what_their_masks_were_made_with(client: TestClient, home: str) -> None:
    found = client.get(f"{home}/sources").json()
    assert [source["name"] for source in found] == ["implicit", "rm_increment"]
    assert found[0]["numbers"]["count"] > 0
    assert found[0]["numbers"]["final"] is True
    assert found[0]["rule"]["segmenter"]["name"] == "hysteresis"


def test_segments_come_from_the_most_negative_on(client: TestClient, home: str) -> None:
    found = client.get(f"{home}/segments", params={"source": "implicit"}).json()["data"]
    rewards = [segment["reward"] for segment in found]
    assert rewards == sorted(rewards)
    assert client.get(f"{home}/segments", params={"highest": True}).json()["data"][0]["reward"] == rewards[-1]
    one = client.get(f"{home}/segments", params={"limit": 1}).json()
    assert len(one["data"]) == 1
    assert one["next_cursor"]


def test_segments_are_filtered(client: TestClient, home: str) -> None:
    query = {"side": "chosen", "polarity": -1, "kept": False}
    for segment in client.get(f"{home}/segments", params=query).json()["data"]:
        assert (segment["side"], segment["polarity"], segment["kept"]) == ("chosen", -1, False)
    assert client.get(f"{home}/segments", params={"source": "magic"}).status_code == 422


def test_pairs_are_sorted_by_what_the_run_found(client: TestClient, run: Run) -> None:
    query = {"run_id": run.id, "sort": "conflict", "source": "implicit"}
    found = client.get(f"/api/v1/datasets/{run.dataset_id}/pairs", params=query).json()
    assert found["total"] == 3
    conflicts = [row["score"]["conflict"] for row in found["data"]]
    assert conflicts == sorted(conflicts, reverse=True)
