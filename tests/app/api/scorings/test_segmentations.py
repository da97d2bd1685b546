"""POST /api/v1/segmentations: the figure's curves, every rule, and requests that cannot be done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

PATH = "/api/v1/segmentations"
ORACLES = json.loads((Path(__file__).parents[3] / "oracles.json").read_text())
FIGURE = {"segmenter": {"name": "hysteresis", "delta": 0.3}, "baseline": "zero", "scale": "none"}


def send(client: TestClient, raw: str) -> Any:
    return client.post(PATH, content=raw, headers={"content-type": "application/json"})


def test_a_response_is_cut_and_masked(client: TestClient) -> None:
    answer = client.post(PATH, json={"token_rewards": [1, 1, -1, -1], "sign": 1, "eos": "inherit", **FIGURE})
    assert answer.status_code == 200
    assert answer.json() == {
        "signal": [1, 1, -1, -1],
        "candidates": [2],
        "pivots": [2],
        "segments": [
            {"start": 0, "end": 2, "polarity": 1, "reward": 1.0},
            {"start": 2, "end": 4, "polarity": -1, "reward": -1.0},
        ],
        "mask": [True, True, False, False],
    }


def test_a_missing_reward_is_null_on_both_ways(client: TestClient) -> None:
    answer = client.post(PATH, json={"token_rewards": [None, None], "segmenter": {"name": "token"}})
    assert answer.status_code == 200
    assert [segment["reward"] for segment in answer.json()["segments"]] == [None, None]


def test_soft_weights_come_only_where_they_were_asked_for(client: TestClient) -> None:
    soft = client.post(PATH, json={"token_rewards": [1.0, -1.0], "soft_tau": 0.5}).json()
    assert len(soft["weights"]) == 2
    assert "weights" not in client.post(PATH, json={"token_rewards": [1.0]}).json()


@pytest.mark.parametrize("name", ["figure_positive", "figure_negative"])
def test_the_figures_curves_turn_where_the_figure_says(client: TestClient, name: str) -> None:
    curve = ORACLES[name]
    answer = client.post(PATH, json={"token_rewards": curve["scores"], **FIGURE}).json()
    assert answer["pivots"] == curve["pivots"]
    assert answer["signal"] == curve["signal"]


@pytest.mark.parametrize(
    "raw",
    [
        '{"token_rewards": [NaN]}',
        '{"token_rewards": [Infinity]}',
        '{"token_rewards": [1e999]}',
        '{"token_rewards": [1], "baseline": -Infinity}',
        '{"token_rewards": []}',
        '{"token_rewards": ["one"]}',
        '{"token_rewards": [1], "unknown": 1}',
        '{"token_rewards": [1], "sign": 2}',
        '{"token_rewards": [1], "segmenter": {"name": "magic"}}',
        '{"token_rewards": [1], "segmenter": {"name": "hysteresis", "delta": -1}}',
        '{"token_rewards": [1, 2], "segmenter": {"name": "entropy"}, "entropies": [1]}',
        '{"token_rewards": [1], "segmenter": {"name": "sentence"}}',
        '{"token_rewards": [1], "text": "\\ud800"}',
        '{"token_rewards": [1], "text": "\\u0000"}',
        pytest.param("[" * 100_000, id="deep"),
        pytest.param("1" * 10_000, id="long"),
        '{"token_rewards": [1]',
        "",
        "null",
    ],
)
def test_a_bad_request_is_a_problem_document(client: TestClient, raw: str) -> None:
    answer = send(client, raw)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"]


def test_bytes_that_are_no_text_are_a_problem_document(client: TestClient) -> None:
    answer = client.post(PATH, content=b'"\xff"', headers={"content-type": "application/json"})
    assert answer.status_code == 422


def test_a_fault_says_where_it_is(client: TestClient) -> None:
    answer = client.post(PATH, json={"token_rewards": [1, "one"]}).json()
    assert answer["errors"][0]["loc"][:3] == ["body", "token_rewards", 1]


def test_text_with_escapes_that_can_be_stored_is_taken(client: TestClient) -> None:
    text = "a\\u0000 \U0001f600"
    body = {"token_rewards": [1], "text": text, "offsets": [[0, len(text)]], "segmenter": {"name": "step"}}
    assert client.post(PATH, json=body).status_code == 200
