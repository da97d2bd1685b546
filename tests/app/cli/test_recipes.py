"""Suites, evaluations and recipes from the command line, against a server that listens."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from typer.testing import CliRunner

from app.cli import app
from app.db.session import Database
from app.main import create_app
from app.settings import Settings
from app.worker import Worker
from tests.app import recipe_handlers

Rewardscope = Callable[..., str]


@pytest.fixture
def rewardscope(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rewardscope]:
    """The command `rewardscope ...`, which finds the server by its environment; what it printed."""
    server = uvicorn.Server(uvicorn.Config(create_app(settings, database), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    assert settings.token is not None
    port = server.servers[0].sockets[0].getsockname()[1]
    monkeypatch.setenv("REWARDSCOPE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("REWARDSCOPE_TOKEN", settings.token.get_secret_value())

    def run(*words: object, exit_code: int = 0) -> str:
        found = CliRunner().invoke(app, [str(word) for word in words])
        assert found.exit_code == exit_code, found.output
        # The server's log is in this process too.
        return "\n".join(line for line in found.output.splitlines() if "request_id=" not in line)

    yield run
    server.should_exit = True
    thread.join()


def test_a_suite_is_imported_and_listed(rewardscope: Rewardscope, tmp_path: Path) -> None:
    assert "No task suite yet" in rewardscope("suites", "list")
    (tmp_path / "sums.jsonl").write_text('{"prompt": "2 + 2 =", "answer": 4, "category": "easy"}\n')
    assert "sums: 1 tasks." in rewardscope("suites", "import", tmp_path / "sums.jsonl")
    assert "easy" in rewardscope("suites", "list")
    assert json.loads(rewardscope("suites", "list", "--json"))[0]["task_count"] == 1
    assert "is no file" in rewardscope("suites", "import", tmp_path / "none.jsonl", exit_code=2)


def test_a_recipe_is_asked_for_done_and_shown(
    rewardscope: Rewardscope, database: Database, settings: Settings, tmp_path: Path
) -> None:
    with database.session() as session:
        world = recipe_handlers.make_world(session, settings)
    (tmp_path / "recipe.yaml").write_text("methods: [rjs]\noptimisation: {batch_size: 4}\n")
    words = ["recipes", "submit", world.pairs.id, "base", "--config", tmp_path / "recipe.yaml"]
    words += ["--density", "segment", "--suite", world.suite.id, "--steps", 7, "--json"]
    recipe = json.loads(rewardscope(*words))
    assert recipe["table"]["compute"].startswith("Every training makes 7 updates of 4")
    worker = Worker(settings, database, recipe_handlers.kinds(tmp_path, {"scorer"}))
    while worker.run_once():
        pass
    worker.close()
    shown = rewardscope("recipes", "show", recipe["id"])
    assert "failed, 3 of 7 steps" in shown
    assert "scorer: The folder has no weights" in shown
    assert "0.500" in shown
    assert "failed" in rewardscope("recipes", "list")
    refused = rewardscope("recipes", "submit", world.pairs.id, "base", "--method", "orpo", exit_code=2)
    assert "orpo" in refused


def test_an_evaluation_is_asked_for_and_its_figures_listed(
    rewardscope: Rewardscope, database: Database, settings: Settings, tmp_path: Path
) -> None:
    with database.session() as session:
        world = recipe_handlers.make_world(session, settings)
    assert "No figure yet" in rewardscope("evaluations", "list")
    assert "base: sums: queued" in rewardscope("evaluations", "submit", "base", "--suite", world.suite.id)
    nothing = rewardscope("evaluations", "submit", "base", exit_code=2)
    assert "name a data set, a task suite" in nothing
