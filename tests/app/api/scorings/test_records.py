"""Records of a run over the API: the very lines that `rewardscope score` writes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.api.scorings import maps as api_maps
from app.api.scorings import records as api_records
from app.db.session import Database
from app.db.tables import Run
from app.settings import Settings
from engine.formats.maps import RECORD_FIELDS, read_maps
from tests.app.factories import make_dataset, make_run, make_scored_run


@pytest.fixture
def run(database: Database, settings: Settings) -> Run:
    """Three pairs; long words are good, short ones bad."""
    with database.session() as session:
        return make_scored_run(session, settings, sources=("implicit", "rm_increment"))


def test_a_record_is_a_map_with_its_cuts(client: TestClient, run: Run) -> None:
    record = client.get(f"/api/v1/runs/{run.id}/records").json()["data"][0]
    assert tuple(record) == RECORD_FIELDS
    assert record["tokens"] == ["Paris", " is", " the", " capital.", "</s>"]
    assert set(record["mask"]) == {"implicit", "rm_increment"}
    pivots = [segment["start"] for segment in record["segments"]["implicit"][1:]]
    assert record["pivots"]["implicit"] == pivots
    assert len(record["mask"]["implicit"]) == 5


def test_records_have_the_segments_that_the_tables_have(client: TestClient, run: Run) -> None:
    home = f"/api/v1/runs/{run.id}"
    records = {(one["id"], one["side"]): one for one in client.get(f"{home}/records").json()["data"]}
    stored = client.get(f"{home}/segments?source=implicit&limit=500").json()["data"]
    assert stored
    for segment in stored:
        record = records[segment["pair_key"], segment["side"]]
        found = {"start": segment["start"], "end": segment["end"], "polarity": segment["polarity"]}
        assert any(found.items() <= one.items() for one in record["segments"]["implicit"])
        mask = record["mask"]["implicit"]
        # The EOS counts whatever its segment does.
        assert segment["start"] == len(mask) - 1 or mask[segment["start"]] == segment["kept"]


def test_records_follow_the_rule_of_the_run(client: TestClient, run: Run) -> None:
    whole = {"segmenter": {"name": "whole"}}
    answer = client.put(f"/api/v1/runs/{run.id}/sources/implicit/rule", json=whole)
    assert answer.json()["rule"]["segmenter"] == {"name": "whole"}
    record = client.get(f"/api/v1/runs/{run.id}/records").json()["data"][0]
    assert record["pivots"]["implicit"] == []


@pytest.mark.parametrize(("path", "rule", "status"), [
    ("runs/999999/sources/implicit/rule", {}, 404),
    ("runs/{}/sources/rm_prefix/rule", {}, 422),
    ("runs/{}/sources/tarot/rule", {}, 422),
    ("runs/{}/sources/implicit/rule", {"segmenter": {"name": "hysteresis", "delta": -1}}, 422),
])  # fmt: skip
def test_a_rule_that_cannot_be_changes_nothing(
    client: TestClient, run: Run, path: str, rule: dict[str, Any], status: int
) -> None:
    before = client.get(f"/api/v1/runs/{run.id}/sources").json()
    assert client.put("/api/v1/" + path.format(run.id), json=rule).status_code == status
    assert client.get(f"/api/v1/runs/{run.id}/sources").json() == before


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_file_of_records_is_one_that_score_could_have_written(
    client: TestClient, run: Run, tmp_path: Path, kind: str
) -> None:
    path = f"/api/v1/runs/{run.id}/records"
    file = tmp_path / f"records.{kind}"
    file.write_bytes(client.get(f"{path}?format={kind}").content)
    pages = client.get(f"{path}?limit=4").json()
    rest = client.get(f"{path}?cursor={pages['next_cursor']}").json()
    written, expected = list(read_maps(file)), pages["data"] + rest["data"]
    for record in [*written, *expected]:  # Parquet has these as float32.
        for segment in itertools.chain.from_iterable(record["segments"].values()):
            segment["reward"] = round(segment["reward"], 4)
    assert len(written) == 6
    assert json.loads(json.dumps(written)) == expected


@pytest.mark.parametrize("what", ["maps", "records"])
def test_a_file_of_several_batches_is_whole(
    client: TestClient, run: Run, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    path = f"/api/v1/runs/{run.id}/{what}"
    whole = client.get(f"{path}?format=jsonl").content
    for module in (api_maps, api_records):
        monkeypatch.setattr(module, "BATCH", 4)
    assert client.get(f"{path}?format=jsonl").content == whole
    assert whole.count(b"\n") == 6


def test_a_run_that_is_not_over_has_no_records_yet(
    client: TestClient, database: Database, settings: Settings
) -> None:
    with database.session() as session:
        run = make_run(session, settings, make_dataset(session, 1))
    answer = client.get(f"/api/v1/runs/{run.id}/records?format=jsonl")
    assert (answer.status_code, answer.json()["code"]) == (409, "run_not_over")
