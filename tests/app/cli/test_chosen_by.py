"""Commands that read single, scored responses ask by which rule they are preferred."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import app

SCORED: list[dict[str, Any]] = [
    {"prompt": f"{n}?", "response": text, "tokens": [text], "token_rewards": [reward], "reward": reward}
    for n in range(4)
    for text, reward in (("yes", 1), ("no", -1))
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_folder: Any) -> Path:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in SCORED))
    config = {
        "method": "dpo",
        "model": str(model_folder("llama", 0)),
        "rows": "rows.jsonl",
        "supervision": {"density": "sample"},
        "optimisation": {"steps": 2, "batch_size": 2},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS = [
    ["score", "rows.jsonl", "--source", "external", "--out", "maps.jsonl"],
    ["train", "config.yaml", "--out", "run"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=["score", "train"])
def test_without_a_rule_nothing_is_taken_for_chosen(here: Path, command: list[str]) -> None:
    ran = CliRunner().invoke(app, command)

    assert ran.exit_code == 2
    assert "--chosen-by" in ran.output
    assert not (here / "maps.jsonl").exists()


@pytest.mark.parametrize("command", COMMANDS, ids=["score", "train"])
def test_a_rule_makes_pairs_of_the_responses_to_a_prompt(here: Path, command: list[str]) -> None:
    ran = CliRunner().invoke(app, [*command, "--chosen-by", "reward"])

    assert ran.exit_code == 0, ran.output


def test_a_threshold_labels_each_response(here: Path) -> None:
    ran = CliRunner().invoke(app, [*COMMANDS[0], "--chosen-by", "reward>0"])

    assert ran.exit_code == 0, ran.output
    maps = [json.loads(line) for line in (here / "maps.jsonl").read_text().splitlines()]
    assert [one["side"] for one in maps] == ["chosen", "rejected"] * 4
