"""The real thing: pairs scored by two models, a third one trained on what the mask keeps, killed on the way,
and the model that comes out loaded."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.db.session import Database
from app.services.runs import metrics, runs
from app.worker import Worker
from tests.app import factories
from tests.engine.training import worlds

STEPS = 60
SECONDS = 60.0


def work(worker: Worker) -> None:
    while worker.run_once():
        pass


def submitted(client: Any, door: str, **body: Any) -> int:
    answer = client.post(f"/api/v1/{door}", json=body)
    assert answer.status_code == 202, answer.text
    return int(answer.json()["id"])


def kill_after(database: Database, run_id: int, step: int) -> None:
    """Kills the process of the run's job, as a machine without memory would, once it is past `step`."""
    give_up = time.monotonic() + SECONDS
    while time.monotonic() < give_up:
        with database.session() as session:
            if metrics.last_step(session, run_id) > step:
                break
        time.sleep(0.02)
    jobs = [child for child in psutil.Process().children() if "engine.jobs" in child.cmdline()]
    os.kill(jobs[0].pid, signal.SIGKILL)


def curves(client: Any, run_id: int) -> dict[str, Any]:
    found = client.get(f"/api/v1/runs/{run_id}/metrics").json()["series"]
    return {name: curve for name, curve in found.items() if not name.startswith("system/")}


@pytest.mark.usefixtures("settings")
def test_a_training_that_is_killed_ends_as_one_that_was_not(
    client: Any, worker: Worker, database: Database, model_folder: Any
) -> None:
    with database.session() as session:
        dataset_id = factories.make_dataset(session, worlds.pairs(24)).id
    scoring = submitted(
        client,
        "scorings",
        dataset_id=dataset_id,
        policy=str(model_folder("llama", 1)),
        reference=str(model_folder("llama", 2)),
    )
    work(worker)
    asked = {
        "dataset_id": dataset_id,
        "model": str(model_folder("llama", 0)),
        "method": {"name": "dpo"},
        "scoring_run_id": scoring,
        "supervision": {"density": "segment", "source": "implicit"},
        "optimisation": {"steps": STEPS, "batch_size": 4},
        "keeping": {"checkpoint_every": 10, "evaluate_every": 20},
        "name": "the first",
    }
    first = submitted(client, "trainings", **asked)
    work(worker)
    run = client.get(f"/api/v1/runs/{first}").json()
    assert run["job"]["status"] == "succeeded", run["job"]["error"]
    whole = curves(client, first)
    assert whole["train/loss"]["steps"] == list(range(1, STEPS + 1))
    assert whole["held_out/loss"]["steps"] == [0, 20, 40, 60]
    assert {"train/kept_chosen", "train/kept_rejected", "train/margin"} <= whole.keys()
    assert run["request"]["settled"]["versions"]["torch"]
    kept = client.get(f"/api/v1/runs/{first}/checkpoints").json()
    assert [one["step"] for one in kept][-2:] == [50, 60]
    assert all(Path(one["path"]).is_dir() for one in kept)

    second = submitted(client, "trainings", **asked | {"name": "the second", "cloned_from": first})
    killer = threading.Thread(target=kill_after, args=(database, second, 23))
    killer.start()
    work(worker)
    killer.join()
    job = client.get(f"/api/v1/runs/{second}").json()["job"]
    assert (job["status"], job["error"]["code"]) == ("crashed", "crashed")
    assert client.post(f"/api/v1/runs/{second}/retry").status_code == 202
    work(worker)
    with database.session() as session:
        again = runs.get_run(session, second)
        assert (again.job.status, again.job.attempt) == ("succeeded", 2)
        assert again.result is not None
        final = again.result["model"]
    assert curves(client, second) == whole

    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(final).config.architectures == ["LlamaForCausalLM"]
    weights = [Path(place) / "model.safetensors" for place in (run["result"]["model"], final)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
