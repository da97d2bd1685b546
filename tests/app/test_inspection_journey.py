"""A worker looks into models, and the pages and the API tell what it saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.engine.chat_templates import tokenizer_of
from tests.engine.tiny_models import build, write_model

API = "/api/v1"
CHAT = [{"role": "user", "content": "Name a <b>colour</b>."}]
ROW = {
    "id": "a",
    "prompt": CHAT,
    "chosen": "Blue is a colour.",
    "rejected": "The sky is blue.\r\n空",
}


@pytest.fixture
def policy(client: TestClient, tmp_path: Path) -> int:
    folder = write_model(tmp_path / "policy", "llama", tokenizer_of("chatml"))
    return int(client.post(f"{API}/models", json={"path": str(folder)}).json()["id"])


@pytest.fixture
def judge(client: TestClient, tmp_path: Path) -> int:
    folder, tokenizer = tmp_path / "judge", tokenizer_of("llama_3")
    build("reward", tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return int(client.post(f"{API}/models", json={"path": str(folder)}).json()["id"])


def page_of(client: TestClient, address: str) -> str:
    return client.get(address, headers={"Accept": "text/html"}).text


def do_all(worker: Any) -> None:
    while worker.run_once():
        pass


def test_a_reward_model_is_looked_into_when_it_is_registered(
    client: TestClient, worker: Any, judge: int
) -> None:
    assert "A worker looks into it" in page_of(client, f"/models/{judge}")

    do_all(worker)

    page = page_of(client, f"/models/{judge}")
    assert "Read as its own forward pass reads it" in page
    assert "&lt;|eot_id|&gt;" in page


def test_any_model_is_looked_into_on_request(client: TestClient, worker: Any, policy: int) -> None:
    run = client.post(f"{API}/models/{policy}/inspection")
    assert run.status_code == 202
    assert client.post(f"{API}/models/{policy}/inspection").json()["id"] == run.json()["id"]

    do_all(worker)

    seen = client.get(f"{API}/runs/{run.json()['id']}").json()["result"]["model"]
    assert "<|im_end|>" in seen["ends"]
    assert seen["example"]["response"] == "It is Paris."
    assert "It is Paris." in page_of(client, f"/models/{policy}")


def test_a_pair_is_shown_as_the_models_of_its_run_read_it(
    client: TestClient, worker: Any, policy: int, judge: int
) -> None:
    dataset = client.post(f"{API}/datasets", files={"file": ("x.jsonl", json.dumps(ROW) + "\n")}).json()["id"]
    asked = {"dataset_id": dataset, "policy": policy, "reference": policy, "reward_model": judge}
    run = client.post(f"{API}/scorings", json=asked)
    assert run.status_code == 202, run.text
    do_all(worker)
    pair = client.get(f"{API}/datasets/{dataset}/pairs").json()["data"][0]["id"]
    where = f"/pairs/{pair}/reads?run={run.json()['id']}"
    assert where.replace("&", "&amp;") in page_of(client, f"/pairs/{pair}")
    assert "Nobody asked yet" in page_of(client, where)

    asked_for = client.post(f"/pairs/{pair}/reads", data={"run": run.json()["id"]}, follow_redirects=False)
    do_all(worker)

    assert asked_for.headers["location"].endswith(where)
    page = page_of(client, where)
    assert page.count("<mark>Blue is a colour.</mark>") == 2
    assert "&lt;|im_start|&gt;user\nName a &lt;b&gt;colour&lt;/b&gt;.&lt;|im_end|&gt;" in page
    assert "&lt;|start_header_id|&gt;user" in page
