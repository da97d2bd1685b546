"""The client against a real server on a real socket."""

from __future__ import annotations

import json
import re
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from app.db.session import Database
from app.db.tables import JobStatus
from app.main import create_app
from app.services.run_kinds import RUN_KINDS
from app.services.runs import jobs, runs
from app.settings import Settings
from app.worker import Worker
from engine.types import Progress
from rewardscope.client import RemoteRun, RewardScope
from rewardscope.errors import Fault, RecipeNotSucceeded, RunNotSucceeded, ServerRefused
from tests.app import recipe_handlers, training_job
from tests.app.factories import claim, make_dataset, make_model, make_scored_run
from tests.conftest import TOKEN

README = Path(__file__).parents[2] / "README.md"
ROWS = [{"id": str(n), "prompt": f"{n}?", "chosen": "yes", "rejected": "no"} for n in range(3)]


@pytest.fixture
def url(settings: Settings, database: Database) -> Iterator[str]:
    """A server that listens."""
    settings = settings.model_copy(update={"max_upload_mib": 1})
    server = uvicorn.Server(uvicorn.Config(create_app(settings, database), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def server(url: str, settings: Settings) -> Iterator[RewardScope]:
    assert settings.token is not None
    with RewardScope(url, settings.token.get_secret_value()) as server:
        yield server


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_data_goes_in_and_comes_back(server: RewardScope, rows: Path) -> None:
    dataset = server.upload_dataset(rows, name="mine")
    assert [found["id"] for found in server.datasets()] == [dataset["id"]]
    assert [pair["key"] for pair in server.pairs(dataset["id"])] == ["0", "1", "2"]
    assert server.import_folder(str(rows.parent), name="again")["pair_count"] == 3


def test_a_refusal_says_why_and_where(server: RewardScope, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"prompt": 1}\n')
    with pytest.raises(ServerRefused) as refused:
        server.upload_dataset(tmp_path / "bad.jsonl")
    assert (refused.value.status, refused.value.code) == (422, "invalid_rows")
    assert refused.value.errors[0].loc[:2] == ("line", 1)
    assert refused.value.request_id
    assert isinstance(refused.value.errors[0], Fault)


def test_an_upload_too_large_is_refused(server: RewardScope, tmp_path: Path) -> None:
    (tmp_path / "large.jsonl").write_bytes(b" " * (3 * 2**20))
    with pytest.raises(ServerRefused, match="larger than 1 MiB") as refused:
        server.upload_dataset(tmp_path / "large.jsonl")
    assert refused.value.status == 413


def test_a_wrong_token_is_refused(url: str) -> None:
    with RewardScope(url, "wrong") as server, pytest.raises(ServerRefused) as refused:
        list(server.runs())
    assert refused.value.status == 401


def test_another_server_is_told_apart() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(502, text="<html>Bad gateway</html>"))
    with (
        RewardScope("http://proxy.example", "t", transport=transport) as server,
        pytest.raises(ServerRefused, match="not RewardScope's"),
    ):
        server.run(1)


def test_a_post_is_sent_again_with_the_same_key() -> None:
    keys = []

    def flaky(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) < 3:
            raise httpx.ReadError("gone", request=request)
        return httpx.Response(201, json={"id": 1})

    with RewardScope("http://server.example", "t", transport=httpx.MockTransport(flaky)) as server:
        assert server.register_model("some/model") == {"id": 1}
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_a_run_is_waited_for_and_its_log_followed(
    server: RewardScope, database: Database, settings: Settings, rows: Path
) -> None:
    with database.session() as session:
        run_id = jobs.submit(session, kind="scoring", name="a run", request={}).id

    def work() -> None:
        with database.session() as session:
            job_id = runs.get_run(session, run_id).job.id
            attempt = claim(session, runs.get_run(session, run_id))
            jobs.report(session, job_id, attempt, Progress("scoring", 1, 2), "half way")
        time.sleep(0.3)
        with database.session() as session:
            jobs.log(session, job_id, attempt, "info", ["nearly"])
            jobs.finish(session, job_id, attempt, {"pairs": 2})

    thread = threading.Thread(target=work)
    thread.start()
    seen: list[RemoteRun] = []
    run = server.wait(run_id, timeout_seconds=20, on_progress=seen.append)
    thread.join()
    assert run.is_over
    assert run.raw["result"] == {"pairs": 2}
    assert seen[-1] == run
    assert [line["message"] for line in server.logs(run_id, follow=True)] == ["half way", "nearly"]


def test_a_run_that_fails_is_raised(server: RewardScope, database: Database) -> None:
    with database.session() as session:
        run = jobs.submit(session, kind="scoring", name="a run", request={})
        attempt = claim(session, run)
        error = {"code": "model_unusable", "detail": "No weights."}
        jobs.fail(session, run.job.id, attempt, JobStatus.failed, error)
    with pytest.raises(RunNotSucceeded, match="failed: No weights"):
        server.wait(run.id)
    assert server.retry(run.id).status == "queued"
    with pytest.raises(TimeoutError, match="not over"):
        server.wait(run.id, timeout_seconds=0.01)
    assert server.cancel(run.id).status == "cancelled"
    server.delete_run(run.id)
    assert list(server.runs()) == []


def test_what_a_run_found_is_read(
    server: RewardScope, database: Database, settings: Settings, tmp_path: Path
) -> None:
    with database.session() as session:
        run = make_scored_run(session, settings)
    maps = list(server.maps(run.id))
    assert len(maps) == 6
    assert server.map(run.id, maps[0]["pair_id"], "chosen") == maps[0]
    assert server.sources(run.id)[0]["name"] == "implicit"
    assert next(server.segments(run.id))["reward"] < 0
    assert {model["name"] for model in server.models()} >= {"policy", "reference"}
    submitted = server.submit_scoring(run.dataset_id or 0, policy="policy", reference="reference")
    assert submitted.status == "queued"
    path = server.download(f"runs/{run.id}/maps", tmp_path / "maps.jsonl")
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [
        found["id"] for found in maps
    ]


def test_a_download_that_is_refused_leaves_no_file(server: RewardScope, tmp_path: Path) -> None:
    with pytest.raises(ServerRefused):
        server.download("runs/999/maps", tmp_path / "maps.jsonl")
    assert list(tmp_path.glob("*maps*")) == []


def test_rewards_are_cut_without_a_model(server: RewardScope) -> None:
    found = server.segment([1.0, None, -1.0], segmenter={"name": "hysteresis", "delta": 0.3})
    assert found["signal"] == [1, 1, -1]


def test_the_environment_names_the_server(
    monkeypatch: pytest.MonkeyPatch, url: str, settings: Settings
) -> None:
    assert settings.token is not None
    monkeypatch.setenv("REWARDSCOPE_URL", url)
    monkeypatch.setenv("REWARDSCOPE_TOKEN", settings.token.get_secret_value())
    with RewardScope.from_environment() as server:
        assert list(server.datasets()) == []


def test_a_suite_an_evaluation_and_a_recipe_are_asked_for(
    server: RewardScope, database: Database, settings: Settings, tmp_path: Path
) -> None:
    with database.session() as session:
        world = recipe_handlers.make_world(session, settings)
    (tmp_path / "more.jsonl").write_text('{"prompt": "2 + 2 =", "answer": 4}\n')
    suite = server.import_suite(tmp_path / "more.jsonl")
    assert [found["name"] for found in server.suites()] == ["more", "sums"]
    assert server.submit_evaluation("base", suite_ids=[suite["id"]]).kind == "evaluation"
    assert list(server.figures(model_ids=[world.base.id])) == []

    asked = {"methods": ["rjs"], "densities": ["sample"], "suite_ids": [suite["id"]]}
    steps = server.preview_recipe(world.pairs.id, "base", **asked)["steps"]
    assert [step["name"] for step in steps] == ["rjs sample", "evaluate base", "evaluate rjs sample"]
    recipe = server.submit_recipe(world.pairs.id, "base", **asked)
    with pytest.raises(TimeoutError, match="goes on without us"):
        server.wait_for_recipe(recipe["id"], timeout_seconds=0.05)
    assert server.cancel_recipe(recipe["id"])["status"] == "cancelled"
    with pytest.raises(RecipeNotSucceeded, match="It needs `rjs sample`, which is cancelled") as ended:
        server.wait_for_recipe(recipe["id"])
    assert ended.value.status == "cancelled"
    assert server.retry_recipe(recipe["id"])["status"] == "queued"
    assert [one["id"] for one in server.recipes()] == [recipe["id"]]


def test_a_recipe_is_waited_for(
    server: RewardScope, database: Database, settings: Settings, tmp_path: Path
) -> None:
    with database.session() as session:
        body = recipe_handlers.make_world(session, settings).body(densities=["sample"], union=False)
    recipe = server.submit_recipe(**body.model_dump(mode="json"))
    worker = Worker(settings, database, recipe_handlers.kinds(tmp_path, set()))
    seen: list[int] = []
    while worker.run_once():
        seen.append(server.recipe(recipe["id"])["done"])
    worker.close()
    done = server.wait_for_recipe(recipe["id"], on_progress=lambda current: seen.append(current["done"]))
    assert seen == [1, 2, 3, 3]
    assert [row["density"] for row in done["table"]["rows"]] == ["base", "sample"]
    (figure,) = server.figures(run_ids=[done["table"]["rows"][0]["evaluation_ids"][0]])
    assert (figure["model"], figure["value"]) == ("base", 0.5)


def test_a_training_is_asked_for_followed_and_fetched(
    server: RewardScope, database: Database, settings: Settings, tmp_path: Path
) -> None:
    with database.session() as session:
        dataset_id = make_dataset(session, 4).id
        make_model(session, settings, "base")
    asked = {"model": "base", "method": "dpo", "density": "sample", "optimisation": {"steps": 7}}
    assert server.preview_training(dataset_id, **asked)["steps"] == 7  # type: ignore[arg-type]
    run = server.submit_training(dataset_id, name="tuned", **asked)  # type: ignore[arg-type]
    worker = Worker(settings, database, {"training": replace(RUN_KINDS["training"], job=training_job.NAME)})
    while worker.run_once():
        pass
    worker.close()
    done = server.wait(run)
    assert server.metrics(run.id, ["train/loss"], since=5)["train/loss"]["steps"] == [6, 7]
    assert [one["step"] for one in server.checkpoints(run.id)] == [3, 6]
    path = server.download_model(done.raw["result"]["model_id"], tmp_path / "tuned.tar")
    with tarfile.open(path) as tar:
        assert "tuned/model.safetensors" in tar.getnames()
    again = server.clone_run(run.id, name="once more", optimisation={"steps": 3})
    assert again.raw["cloned_from"] == run.id
    assert again.raw["request"]["optimisation"]["steps"] == 3


def test_the_example_of_the_readme_scores_a_file(
    url: str, worker: Worker, model_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with RewardScope(url, TOKEN) as server:
        for seed, name in enumerate(("my-policy", "my-base")):
            server.register_model(str(model_folder("llama", seed)), name=name)
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    example = example.replace("http://127.0.0.1:8321", url).replace("...", "records.append(record)")
    records: list[dict[str, Any]] = []
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            worker.run_once() or over.wait(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        exec(example, {"token": TOKEN, "records": records})
    finally:
        over.set()
        thread.join()

    assert len(records) == 6
    assert all(record["mask"]["implicit"] for record in records)
