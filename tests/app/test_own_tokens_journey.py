"""Logs of trainers bring tokens with rewards and log-probabilities: scored, cut and shown without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.engine.chat_templates import tokenizer_of
from tests.engine.tiny_models import write_model

API = "/api/v1"
HTML = {"Accept": "text/html"}
LOG = [
    {
        "prompt": "Say <hi>",
        "response": "Hi there!",
        "response_tokens": ["Hi", " there", "!"],
        "logprobs": [-0.1, -2.5, -0.2],
        "ref_logprobs": [-0.9, -0.5, -0.3],
        "token_rewards": [0.5, -0.25, 1],
        "reward": 1.25,
    },
    {
        "prompt": "Say <hi>",
        "response": "No.",
        "response_tokens": ["No", "."],
        "logprobs": [-2, -0.1],
        "ref_logprobs": [-1, -0.6],
        "token_rewards": [-1, None],
        "reward": -1,
    },
]


@pytest.fixture
def dataset(client: TestClient) -> int:
    file = "".join(json.dumps(row) + "\n" for row in LOG)
    sent = client.post(f"{API}/datasets", files={"file": ("log.jsonl", file)}, data={"chosen_by": "reward"})
    assert sent.status_code == 201, sent.text
    return int(sent.json()["id"])


def scored(client: TestClient, worker: Any, dataset: int, **asked: Any) -> int:
    sent = client.post(f"{API}/scorings", json={"dataset_id": dataset, **asked})
    assert sent.status_code == 202, sent.text
    while worker.run_once():
        pass
    run = client.get(f"{API}/runs/{sent.json()['id']}").json()
    assert run["job"]["status"] == "succeeded", run["job"]
    return int(run["id"])


def test_rewards_and_logprobs_of_a_log_are_scored_without_a_model(
    client: TestClient, worker: Any, dataset: int
) -> None:
    run = scored(client, worker, dataset)

    records = client.get(f"{API}/runs/{run}/records").json()["data"]
    chosen, rejected = records
    assert chosen["tokens"] == LOG[0]["response_tokens"]
    assert chosen["token_rewards"]["external"] == [0.5, -0.25, 1]
    assert chosen["token_rewards"]["implicit"] == pytest.approx([0.08, -0.2, 0.01], rel=1e-3)
    assert rejected["token_rewards"]["external"] == [-1, None]
    assert rejected["logprobs"] == pytest.approx([-2, -0.1], rel=1e-3)


def test_every_page_and_answer_of_such_a_pair_opens(client: TestClient, worker: Any, dataset: int) -> None:
    run = scored(client, worker, dataset)
    pair = client.get(f"{API}/datasets/{dataset}/pairs").json()["data"][0]["id"]

    for address in (
        *(f"/pairs/{pair}?run={run}&source={source}" for source in ("external", "implicit")),
        *(f"/pairs/{pair}/{part}?run={run}" for part in ("reads", "preview")),
        *(f"/datasets/{dataset}?run={run}&source={source}" for source in ("external", "implicit")),
        f"/runs/{run}",
    ):
        page = client.get(address, headers=HTML)
        assert page.status_code == 200, address
    previewed = client.get(f"{API}/pairs/{pair}/preview?run={run}").json()
    assert previewed["densities"][0]["tokens"]["chosen"] == 3
    shown = client.get(f"/pairs/{pair}?run={run}&source=external", headers=HTML).text
    assert "there" in shown
    for address in (
        *(f"pairs/{pair}/{part}?run={run}" for part in ("preview", "export")),
        *(f"runs/{run}/{part}" for part in ("maps", "segments", "agreement", "clone", "sources")),
        *(f"datasets/{dataset}/{part}?run_id={run}" for part in ("pairs", "conflicts", "histograms")),
    ):
        answer = client.get(f"{API}/{address}")
        assert answer.status_code == 200, (address, answer.text)


def test_the_form_scores_without_a_model_and_says_what_the_data_bring(
    client: TestClient, worker: Any, dataset: int
) -> None:
    form = client.get(f"/datasets/{dataset}/score", headers=HTML).text
    assert "no model at all: these data bring tokens with log-probabilities" in form

    sent = client.post(
        f"/datasets/{dataset}/score",
        data={"sources": ["implicit"]},
        headers={**HTML, "Origin": "http://testserver"},
        follow_redirects=False,
    )

    assert sent.status_code == 303, sent.text


def test_such_a_run_masks_no_training_as_nobody_knows_its_tokenizer(
    client: TestClient, worker: Any, dataset: int, tmp_path: Path
) -> None:
    run = scored(client, worker, dataset, sources=["external"])
    folder = write_model(tmp_path / "policy", "llama", tokenizer_of("chatml"))
    model = client.post(f"{API}/models", json={"path": str(folder)}).json()["id"]
    body = {"dataset_id": dataset, "model": model, "method": {"name": "dpo"}, "scoring_run_id": run}

    refused = client.post(f"{API}/trainings", json={**body, "supervision": {"density": "token"}})

    assert refused.status_code == 422, refused.text
    assert "was scored without a model" in refused.json()["detail"]


def test_without_logprobs_the_implicit_reward_still_needs_models(client: TestClient) -> None:
    row = {"prompt": "a", "chosen": "b", "rejected": "c", "chosen_tokens": ["b"], "chosen_token_rewards": [1]}
    sent = client.post(f"{API}/datasets", files={"file": ("x.jsonl", json.dumps(row))})

    refused = client.post(f"{API}/scorings", json={"dataset_id": sent.json()["id"], "sources": ["implicit"]})

    assert refused.status_code == 422
    assert "`implicit` needs" in refused.json()["detail"]
