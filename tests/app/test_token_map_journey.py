"""The real thing: a model trained with an adapter, a pair read by its checkpoints in the warm process, and
the same rewards as scoring the final model gives."""

from __future__ import annotations

from typing import Any

import pytest

from app.db.session import Database
from app.services.pairs import pairs
from app.worker import Worker
from tests.app import factories
from tests.engine.training import worlds


def submitted(client: Any, door: str, **body: Any) -> int:
    answer = client.post(f"/api/v1/{door}", json=body)
    assert answer.status_code == 202, answer.text
    return int(answer.json()["id"])


def work(client: Any, worker: Worker, run_id: int) -> None:
    while worker.run_once():
        pass
    job = client.get(f"/api/v1/runs/{run_id}").json()["job"]
    assert job["status"] == "succeeded", job["error"]


@pytest.mark.usefixtures("settings")
def test_a_pair_is_read_by_the_checkpoints_of_a_training(
    client: Any, worker: Worker, database: Database, model_folder: Any
) -> None:
    with database.session() as session:
        dataset_id = factories.make_dataset(session, worlds.pairs(8)).id
        pair_id = pairs.list_pairs(session, dataset_id).items[3].pair.id
    training = submitted(
        client,
        "trainings",
        dataset_id=dataset_id,
        model=str(model_folder("llama", 0)),
        method={"name": "dpo"},
        optimisation={"steps": 6, "batch_size": 4, "learning_rate": 1e-2},
        keeping={"checkpoint_every": 3, "keep": 3},
        lora={"rank": 4},
        supervision={"density": "sample"},
        name="tuned",
    )
    work(client, worker, training)
    reading = submitted(client, f"trainings/{training}/token-maps", pair_ids=[pair_id])
    work(client, worker, reading)
    found = client.get(f"/api/v1/trainings/{training}/token-maps/{pair_id}").json()
    assert [one["step"] for one in found["steps"]] == [0, 3, 6]
    assert found["steps"][0]["margin"] == 0
    scoring = submitted(
        client, "scorings", dataset_id=dataset_id, policy="tuned", reference=str(model_folder("llama", 0))
    )
    work(client, worker, scoring)
    for side in found["sides"]:
        scored = client.get(f"/api/v1/runs/{scoring}/maps/{pair_id}/{side['side']}").json()
        assert side["tokens"] == scored["tokens"]
        assert side["rewards"][-1] == pytest.approx(scored["token_rewards"]["implicit"], abs=2e-4)
        assert side["rewards"][1] != side["rewards"][2]
    page = client.get(f"/runs/{training}/pairs/{pair_id}", headers={"Accept": "text/html"}).text
    assert "Step 6 of 6" in page
