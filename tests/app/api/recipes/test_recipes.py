"""Task suites, evaluations and recipes over the API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.db.session import Database
from app.settings import Settings
from tests.app.recipe_handlers import make_world

TASK = {"key": "1", "prompt": "1 + 1 =", "checker": {"kind": "number", "value": 2}, "category": "sums"}
API = "/api/v1"


@pytest.fixture
def asked(database: Database, settings: Settings) -> dict[str, Any]:
    """The body of a small recipe."""
    with database.session() as session:
        world = make_world(session, settings)
        return world.body().model_dump(mode="json")


def test_a_suite_is_uploaded_looked_into_and_deleted(client: TestClient) -> None:
    rows = (json.dumps(TASK) + "\n").encode()
    answer = client.post(f"{API}/task-suites", files={"file": ("sums.jsonl", rows)}, data={"name": "mine"})
    assert answer.status_code == 201, answer.text
    suite = answer.json()
    assert (suite["name"], suite["task_count"], suite["categories"]) == ("mine", 1, {"sums": 1})
    place = answer.headers["Location"]
    assert client.get(place).json() == suite
    assert client.get(f"{API}/task-suites").json()["data"] == [suite]
    (task,) = client.get(f"{place}/tasks").json()["data"]
    assert (task["position"], task["checker"]["value"]) == (0, 2)
    assert client.get(f"{place}/tasks?format=csv").text.startswith("key,prompt")
    assert client.delete(place).status_code == 204
    assert client.get(place).status_code == 404


def test_tasks_come_as_rows_too(client: TestClient) -> None:
    body = {"name": "mine", "tasks": [TASK]}
    first, again = (client.post(f"{API}/task-suites", json=body) for _ in range(2))
    assert (first.status_code, again.json()["id"]) == (201, first.json()["id"])
    other = client.post(f"{API}/task-suites", json={"name": "mine", "tasks": [TASK | {"prompt": "2 ="}]})
    assert (other.status_code, other.json()["code"]) == (409, "name_taken")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x"},
        {"tasks": [TASK]},
        {"name": "x", "tasks": [TASK], "path": "/x"},
        {"name": "x", "tasks": [{"prompt": "?"}]},
        {"path": "/nowhere/at/all.jsonl"},
    ],
)
def test_a_suite_that_is_no_suite_is_refused(client: TestClient, body: dict[str, Any]) -> None:
    answer = client.post(f"{API}/task-suites", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"]


def test_a_suite_in_another_form_is_refused(client: TestClient) -> None:
    headers = {"Content-Type": "text/plain"}
    assert client.post(f"{API}/task-suites", content=b"x", headers=headers).status_code == 415


def test_an_evaluation_is_accepted_and_says_where_to_look(client: TestClient, asked: dict[str, Any]) -> None:
    body = {"model": asked["model"], "suite_ids": asked["suite_ids"]}
    answer = client.post(f"{API}/evaluations", json=body, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 202, answer.text
    assert client.get(answer.headers["Location"]).json()["kind"] == "evaluation"
    again = client.post(f"{API}/evaluations", json=body, headers={"Idempotency-Key": "k"})
    assert again.json()["id"] == answer.json()["id"]
    assert client.get(f"{API}/runs?kind=evaluation").json()["total"] == 1
    assert client.get(f"{API}/evaluations?model_id=1&model_id=2&run_id=3").json()["data"] == []
    refused = client.post(f"{API}/evaluations", json={"model": asked["model"]})
    assert refused.status_code == 422
    assert "name a data set, a task suite" in refused.json()["detail"]


def test_a_recipe_is_previewed_submitted_cancelled_and_retried(
    client: TestClient, asked: dict[str, Any]
) -> None:
    preview = client.post(f"{API}/recipes/preview", json=asked).json()
    assert [step["kind"] for step in preview["steps"]].count("training") == 4
    assert client.get(f"{API}/recipes").json()["data"] == []

    answer = client.post(f"{API}/recipes", json=asked, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 202, answer.text
    recipe, place = answer.json(), answer.headers["Location"]
    assert (recipe["status"], recipe["done"], recipe["total"]) == ("queued", 0, 9)
    assert [row["density"] for row in recipe["table"]["rows"]] == ["base", "sample", "segment", "union"]
    assert client.post(f"{API}/recipes", json=asked, headers={"Idempotency-Key": "k"}).json() == recipe
    scorer = next(step for step in recipe["steps"] if step["name"] == "scorer")
    run = client.get(f"{API}/runs/{scorer['run_id']}").json()
    assert (run["recipe_id"], run["recipe_step"]) == (recipe["id"], "scorer")
    (line,) = client.get(f"{API}/recipes").json()["data"]
    assert line.items() <= recipe.items()

    assert client.delete(place).status_code == 409
    assert client.post(f"{place}/cancel").json()["status"] == "cancelled"
    assert client.post(f"{place}/retry").json()["status"] == "queued"
    assert client.post(f"{place}/retry").status_code == 409
    client.post(f"{place}/cancel")
    assert client.delete(place).status_code == 204
    assert client.get(place).status_code == 404


def test_methods_are_named_or_given_with_their_numbers(client: TestClient, asked: dict[str, Any]) -> None:
    body = asked | {"methods": ["sft", {"name": "dpo", "beta": 0.2}]}
    steps = client.post(f"{API}/recipes/preview", json=body).json()["steps"]
    dpo = next(step for step in steps if step["name"] == "dpo segment")
    assert dpo["request"]["method"]["beta"] == 0.2
    assert [step["name"] for step in steps if step["method"] == "sft" and step["kind"] == "training"] == [
        "sft sample",
        "sft union",
    ]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"methods": ["orpo"]}, "methods"),
        ({"methods": "dpo"}, "methods"),
        ({"methods": [7]}, "methods"),
        ({"seeds": [0, 0]}, "seeds"),
        ({"densities": []}, "densities"),
        ({"optimisation": {"steps": 0}}, "optimisation"),
    ],
)
def test_a_bad_recipe_is_refused_with_its_place(
    client: TestClient, asked: dict[str, Any], change: dict[str, Any], place: str
) -> None:
    answer = client.post(f"{API}/recipes", json=asked | change)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"][:2] == ["body", place]
