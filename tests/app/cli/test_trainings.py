"""`rewardscope trainings` and what `runs` tells of them, against a real server on a real socket."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvicorn
import yaml
from typer.testing import CliRunner

from app.cli import app
from app.db.session import Database
from app.main import create_app
from app.services.run_kinds import RUN_KINDS
from app.settings import Settings
from app.worker import Worker
from tests.app import training_job
from tests.app.factories import make_dataset, make_model
from tests.conftest import TOKEN


@pytest.fixture
def server(settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that the command line finds, and whose log stays out of what the commands print."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    running = uvicorn.Server(uvicorn.Config(create_app(settings, database), port=0, log_level="warning"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    port = running.servers[0].sockets[0].getsockname()[1]
    monkeypatch.setenv("REWARDSCOPE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("REWARDSCOPE_TOKEN", TOKEN)
    yield
    running.should_exit = True
    thread.join()
    structlog.reset_defaults()


@pytest.fixture
def config(settings: Settings, database: Database, tmp_path: Path) -> Path:
    """A file that asks for a training of seven updates."""
    with database.session() as session:
        make_model(session, settings, "base")
        dataset_id = make_dataset(session, 4).id
    path = tmp_path / "training.yaml"
    body = {"dataset_id": dataset_id, "model": "base", "method": {"name": "dpo"}, "name": "tuned"}
    path.write_text(yaml.safe_dump(body | {"optimisation": {"steps": 7}}))
    return path


def answer(*words: object) -> Any:
    """The JSON that a command prints."""
    return json.loads(ask(*words, "--json").stdout)


def ask(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.usefixtures("server")
def test_a_training_is_previewed_submitted_and_looked_at(
    settings: Settings, database: Database, config: Path
) -> None:
    shown = ask("trainings", "preview", config)
    assert shown.exit_code == 0, shown.output
    assert "7" in shown.output
    run = answer("trainings", "submit", config)
    assert (run["name"], run["job"]["status"]) == ("tuned", "queued")
    assert "No curve." in ask("runs", "metrics", run["id"]).output
    worker = Worker(settings, database, {"training": replace(RUN_KINDS["training"], job=training_job.NAME)})
    while worker.run_once():
        pass
    worker.close()
    assert "train/loss" in ask("runs", "metrics", run["id"]).output
    found = json.loads(
        ask("runs", "metrics", run["id"], "--name", "train/loss", "--since", 5, "--json").stdout
    )
    assert found["train/loss"]["steps"] == [6, 7]
    kept = answer("runs", "checkpoints", run["id"])
    assert [one["step"] for one in kept] == [3, 6]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("text", "words"),
    [("model: x", "must name `dataset_id`, `method`"), ("a: [", "is no YAML"), ("- 1", "must name")],
)
def test_a_file_that_asks_for_nothing_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    refused = ask("trainings", "submit", path)
    assert refused.exit_code != 0
    assert words in " ".join(refused.output.split())


@pytest.mark.usefixtures("server")
def test_what_the_server_refuses_is_said_with_its_field(config: Path) -> None:
    config.write_text(config.read_text() + "scoring_run_id: 999999\n")
    refused = ask("trainings", "submit", config)
    assert refused.exit_code != 0
    assert "no scoring run 999999" in " ".join(refused.output.split())
    assert "scoring_run_id" in refused.output
