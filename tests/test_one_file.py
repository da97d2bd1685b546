"""An idea is one file: what a module of somebody else registers is found in forms, API and command line, and
does its work. Each toy under `tests/toys` is such a module; it joins processes by their environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.db.session import Database
from app.settings import Settings
from tests.app import factories
from tests.conftest import TOKEN

ROOT = Path(__file__).parents[1]
PLUGINS = "sources=tests.toys.toy_source"
ModelFolder = Callable[..., Path]


def run(*arguments: object, **environment: str) -> str:
    """What `python -m ...` prints in a process that all toys join."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "REWARDSCOPE_PLUGINS": PLUGINS, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def pages(database: Database, settings: Settings) -> Callable[..., dict[str, str]]:
    """What the application with all toys answers to addresses: `pages("/trainings/new", ...)`."""

    def answers(*paths: str) -> dict[str, str]:
        printed = run(
            "tests.toys.served",
            *paths,
            REWARDSCOPE_DATABASE_URL=settings.database_url or "",
            REWARDSCOPE_DATA_DIR=str(settings.data_dir),
            REWARDSCOPE_TOKEN=TOKEN,
        )
        found: dict[str, str] = json.loads(printed.splitlines()[-1])  # Before it stands the log.
        return found

    return answers


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A file of two preference pairs."""
    file = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": "The sky is", "chosen": " blue and the grass is green.", "rejected": " green."},
        {"prompt": "Two and two", "chosen": " make four.", "rejected": " make a small cat."},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


# --------------------------------------------------------------------------------------------------- a source


def test_a_source_is_found_in_every_form_and_in_the_schema(
    database: Database, pages: Callable[..., dict[str, str]]
) -> None:
    with database.session() as session:
        score = f"/datasets/{factories.make_dataset(session).id}/score"
    found = pages(score, "/trainings/new", "/recipes/new", "/openapi.json")

    assert 'name="sources" value="toy_length"' in found[score]
    assert "Length says nothing of what is right." in found[score]
    for form in ("/trainings/new", "/recipes/new"):
        assert '<option value="toy_length">Length of the token</option>' in found[form]
    schemas = json.loads(found["/openapi.json"])["components"]["schemas"]
    assert schemas["SourceRequest"]["properties"]["name"]["enum"][-2:] == ["external", "toy_length"]


def test_a_source_scores_a_file(model_folder: ModelFolder, pairs: Path, tmp_path: Path) -> None:
    assert "toy_length" in run("rewardscope", "score", "--help")

    maps = tmp_path / "maps.jsonl"
    run("rewardscope", "score", pairs, "--policy", model_folder("llama"), "--out", maps)
    record = json.loads(maps.read_text().splitlines()[0])

    lengths = [end - start for start, end in record["offsets"]]
    assert record["token_rewards"] == {"toy_length": lengths}
    assert sum(lengths) == len(" blue and the grass is green.")
