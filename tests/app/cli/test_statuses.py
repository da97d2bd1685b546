"""Exit statuses tell scripts apart what went wrong, and questions make nothing that was not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.cli.output import Exit
from app.security import load_token
from app.settings import Settings
from tests.app.cli.test_trainings import server as server
from tests.engine.chat_templates import tokenizer_of
from tests.engine.tiny_models import write_model

ROOT = Path(__file__).parents[3]


def invoke(*words: str) -> tuple[int, str]:
    ran = CliRunner().invoke(app, list(words))
    return ran.exit_code, " ".join((ran.stdout + ran.stderr).split())


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder that no server was started with."""
    folder = tmp_path / "nothing"
    monkeypatch.setenv("REWARDSCOPE_DATA_DIR", str(folder))
    return folder


def test_a_token_is_shown_and_never_made_up(nowhere: Path) -> None:
    status, said = invoke("token", "show")

    assert status == Exit.NOT_FOUND
    assert "no server was started with this data folder" in said
    assert not nowhere.exists()


def test_the_token_of_a_data_folder_is_shown(nowhere: Path) -> None:
    token = load_token(Settings(data_dir=nowhere))

    assert invoke("token", "show") == (0, token)


@pytest.mark.parametrize("command", [["runs", "list"], ["datasets", "list"], ["jobs", "list"]])
def test_commands_to_a_server_make_no_token_either(nowhere: Path, command: list[str]) -> None:
    status, said = invoke(*command)

    assert status == Exit.NOT_FOUND
    assert "rewardscope up" in said
    assert not nowhere.exists()


@pytest.mark.parametrize("command", [["backup", "kept.backup"], ["current"], ["downgrade", "base", "--yes"]])
def test_the_data_base_of_a_folder_that_is_not_there_is_not_made(
    nowhere: Path, tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    status, said = invoke("db", *command)

    assert status == Exit.NOT_FOUND
    assert f"There is no data base in {nowhere}." in said
    assert not nowhere.exists()
    assert not (tmp_path / "kept.backup").exists()


def test_a_data_base_without_tables_is_no_backup(empty_database_url: str, tmp_path: Path) -> None:
    status, said = invoke("db", "backup", str(tmp_path / "kept.backup"), "--database-url", empty_database_url)

    assert status == Exit.BAD_INPUT
    assert "is empty" in said
    assert not (tmp_path / "kept.backup").exists()


def test_a_server_that_is_away_has_a_status_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARDSCOPE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("REWARDSCOPE_TOKEN", "a-token-that-is-long-enough")

    status, said = invoke("runs", "list")

    assert status == Exit.SERVER_AWAY
    assert "No server answers at http://127.0.0.1:1." in said


@pytest.mark.usefixtures("server")
def test_what_the_server_does_not_know_has_a_status_of_its_own() -> None:
    status, said = invoke("runs", "show", "4711")

    assert status == Exit.NOT_FOUND
    assert "4711" in said


def test_a_wrong_command_is_bad_input() -> None:
    assert invoke("runs", "dance")[0] == Exit.BAD_INPUT


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose packages are those of this one, but for torch and transformers."""
    folder = tmp_path_factory.mktemp("packages")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if path.name.split("-")[0] not in ("torch", "transformers") and path.suffix != ".pth":
            (folder / path.name).symlink_to(path)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}


@pytest.mark.parametrize(
    "command",
    [
        ["score", "rows.jsonl", "--policy", "p", "--reference", "r", "--out", "o.jsonl"],
        ["demo"],
        ["up"],
        ["train", "c.yaml", "--out", "x"],
        ["lab", "x"],
    ],
)
def test_without_torch_a_command_that_loads_models_says_one_sentence(
    without_torch: dict[str, str], tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    (tmp_path / "c.yaml").write_text("method: dpo\nmodel: m\nrows: rows.jsonl\n")

    # -S: without the folder of packages that belongs to this interpreter.
    words = [sys.executable, "-S", "-m", "rewardscope", *command]
    ran = subprocess.run(words, cwd=tmp_path, env=without_torch, capture_output=True, text=True, timeout=60)

    assert ran.returncode == Exit.BAD_INPUT, ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1
    assert "torch, transformers are not installed: pip install 'rewardscope[engine]'" in ran.stderr


def test_without_torch_a_model_is_told_of_as_far_as_its_files_tell(
    without_torch: dict[str, str], tmp_path: Path
) -> None:
    write_model(tmp_path / "chat", "llama", tokenizer_of("chatml"))
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')

    words = [sys.executable, "-S", "-m", "rewardscope", "inspect", "--json"]
    model, rows, rendered = (
        subprocess.run(
            [*words, *asked], cwd=tmp_path, env=without_torch, capture_output=True, text=True, timeout=60
        )
        for asked in (["chat"], ["rows.jsonl"], ["rows.jsonl", "--model", "chat"])
    )

    assert model.returncode == 0, model.stderr
    found = json.loads(model.stdout)
    assert (found["architecture"], found["eos"], found["example"]) == ("LlamaForCausalLM", "<|im_end|>", None)
    assert found["odd"] == [
        "Only its files were looked at, neither weights nor chat template: torch, transformers are not "
        "installed: pip install 'rewardscope[engine]'."
    ]
    assert json.loads(rows.stdout)["pairs"] == 1
    assert rendered.returncode == Exit.BAD_INPUT
    assert "torch, transformers are not installed" in rendered.stderr
