"""Token maps of a training over the API."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from app.db.session import Database
from app.services.pairs import pairs
from app.services.trainings import token_maps
from app.settings import Settings
from tests.app import traced_runs, trained_runs


@pytest.fixture
def training(database: Database, settings: Settings) -> tuple[int, int]:
    with database.session() as session:
        run = trained_runs.make_training(session, settings)
        attempt = trained_runs.begin(session, run)
        trained_runs.go_on(session, run, attempt, 60)
        return run.id, pairs.list_pairs(session, run.dataset_id or 0).items[0].pair.id


def test_pairs_are_read_by_a_run_and_then_told_step_by_step(
    client: TestClient, database: Database, training: tuple[int, int]
) -> None:
    run_id, pair_id = training
    path = f"/api/v1/trainings/{run_id}/token-maps"
    assert client.get(f"{path}/{pair_id}").status_code == 404
    answer = client.post(path, json={"pair_ids": [pair_id]})
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/v1/runs/{answer.json()['id']}"
    assert client.get(f"{path}/{pair_id}").json()["code"] == "not_read_yet"
    assert [one["kind"] for one in client.get("/api/v1/runs?kind=token_maps").json()["data"]] == [
        "token_maps"
    ]
    with database.session() as session:
        run = token_maps.latest(session, run_id, pair_id)
        assert run is not None
        traced_runs.read(session, run, [0, 60])
    found: dict[str, Any] = client.get(f"{path}/{pair_id}").json()
    assert [one["step"] for one in found["steps"]] == [0, 60]
    assert found["steps"][0]["margin"] == 0
    chosen = found["sides"][0]
    assert chosen["tokens"] == ["Paris", " is", " the", " capital.", "</s>"]
    assert chosen["rewards"][0] == [0.0] * 5
    assert chosen["rewards"][1] == pytest.approx([0.9, -0.9, -0.3, 2.7, 0.0], abs=2e-3)


def test_pairs_that_cannot_be_read_are_refused(client: TestClient, training: tuple[int, int]) -> None:
    run_id, pair_id = training
    path = f"/api/v1/trainings/{run_id}/token-maps"
    assert client.post(path, json={"pair_ids": []}).status_code == 422
    assert client.post(path, json={"pair_ids": [999]}).status_code == 404
    assert client.post("/api/v1/trainings/999/token-maps", json={"pair_ids": [pair_id]}).status_code == 404
