"""`inspect` says what would be read, and does nothing with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.cli.output import Exit
from engine.inspection.model_files import seen_of
from engine.model_files import inspect_model
from engine.types import ModelReference
from tests.engine.chat_templates import tokenizer_of
from tests.engine.tiny_models import write_model

CHAT = [{"role": "user", "content": "2 + 2?"}]
ROW = {
    "chosen": [*CHAT, {"role": "assistant", "content": "4"}],
    "rejected": [*CHAT, {"role": "assistant", "content": "5"}],
    "origin": "made up",
}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + '{"chosen": ""}\n')
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "chat", "llama", tokenizer_of("chatml"))


def said(*words: object) -> str:
    ran = CliRunner().invoke(app, ["inspect", *map(str, words)])
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def test_a_file_is_told_of_with_what_is_left_and_refused(rows: Path) -> None:
    told = said(rows)

    for expected in (
        "messages (1 of 2 rows)",
        "columns left    origin",
        "refused: 1",
        "line 2",
        "user: 2 + 2?",
    ):
        assert expected in told


def test_rows_are_shown_as_a_model_reads_them(rows: Path, model: Path) -> None:
    told = said(rows, "--model", model)

    assert "<|im_start|>assistant\n⟦4<|im_end|>⟧" in told


def test_a_model_is_told_of(model: Path) -> None:
    found = json.loads(said(model, "--json"))

    assert found["has_chat_template"]
    assert found["example"]["response"] == "It is Paris."


def test_the_answer_is_one_json_document(rows: Path, model: Path) -> None:
    found = json.loads(said(rows, "--json", "--model", model))

    assert (found["rows"], found["refused"], found["columns_left"]) == (2, 1, ["origin"])
    assert [one["side"] for one in found["rendered"]] == ["chosen", "rejected"]


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["inspect", str(tmp_path / "none")]).exit_code == Exit.NOT_FOUND


def test_a_split_of_a_folder_is_looked_at(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": name, "chosen": "a", "rejected": "b"}))

    unclear = CliRunner().invoke(app, ["inspect", str(tmp_path)])

    assert unclear.exit_code == Exit.BAD_INPUT
    assert "--split" in unclear.output
    assert json.loads(said(tmp_path, "--split", "test", "--json"))["first_rows"][0]["prompt"] == "test"


def test_a_template_that_ignores_the_tools_of_rows_is_told_of(tmp_path: Path, model: Path) -> None:
    row = {"prompt": CHAT, "chosen": "4", "rejected": "5", "tools": [{"name": "add"}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))

    told = said(tmp_path / "rows.jsonl", "--model", model)

    assert "ignores `tools`: 1 conversation brings them." in told


def test_a_model_that_cannot_be_used_is_told_of_with_why(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))

    ran = CliRunner().invoke(app, ["inspect", str(model)])

    assert ran.exit_code == Exit.BAD_INPUT
    assert "LlamaForCausalLM" in ran.stdout
    assert "has no place for" in " ".join(ran.stderr.split())


def test_an_adapter_is_told_of_with_its_base(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')

    ran = CliRunner().invoke(app, ["inspect", str(tmp_path)])

    assert ran.exit_code == Exit.BAD_INPUT
    assert "an adapter of `org/base` without its base model" in " ".join(ran.stderr.split())


def test_the_files_of_a_model_tell_what_the_loaded_model_does(model: Path) -> None:
    loaded = json.loads(said(model, "--json"))

    of_files = seen_of(inspect_model(ModelReference(path=str(model)))).as_row()

    unloaded = {"example": None, "odd": []}
    assert of_files == {**loaded, **unloaded}


def test_options_for_rows_are_refused_of_a_model(model: Path) -> None:
    ran = CliRunner().invoke(app, ["inspect", str(model), "--split", "train"])

    assert ran.exit_code == Exit.BAD_INPUT
    assert "--split is meant" in " ".join(ran.stderr.split())
