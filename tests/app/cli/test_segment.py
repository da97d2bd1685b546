"""`rewardscope segment`: the stateless form on files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import app

ORACLES = json.loads((Path(__file__).parents[2] / "oracles.json").read_text())
RULE = {
    "segmenter": {"name": "hysteresis", "delta": 0.3},
    "baseline": "zero",
    "scale": "none",
    "eos": "inherit",
}


def segment(body: object, *options: str) -> Any:
    return CliRunner().invoke(app, ["segment", "-", *options], input=json.dumps(body))


@pytest.mark.parametrize(("figure", "sign", "kept"), [
    ("figure_positive", 1, "kept_if_positive"),
    ("figure_negative", -1, "kept_if_negative"),
])  # fmt: skip
def test_the_curves_of_the_figure_are_cut_as_the_figure_cuts_them(figure: str, sign: int, kept: str) -> None:
    oracle = ORACLES[figure]

    found = segment({"token_rewards": oracle["scores"], "sign": sign, **RULE}, "--json")

    answer = json.loads(found.stdout)
    assert answer["pivots"] == oracle["pivots"]
    assert answer["signal"] == oracle["signal"]
    assert answer["candidates"] == oracle["zero_crossing_candidates"]
    assert [[one["start"], one["end"]] for one in answer["segments"]] == oracle["segments"]
    counted = [position for position, counts in enumerate(answer["mask"]) if counts]
    assert counted == [position for start, end in oracle[kept] for position in range(start, end)]


def test_a_file_is_read_as_well_as_standard_input(tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_text('{"token_rewards": [1.0, -1.0], "eos": "inherit"}')

    found = CliRunner().invoke(app, ["segment", str(file), "--json"])

    assert json.loads(found.stdout)["mask"] == [True, False]


def test_people_see_a_table() -> None:
    found = segment({"token_rewards": [1.0, -1.0], "eos": "inherit"})

    assert found.exit_code == 0
    assert "pivots      1" in found.stdout


@pytest.mark.parametrize(("body", "said"), [
    ('{"token_rewards": [1.0, NaN]}', "write null where a reward is missing"),
    ('{"token_rewards": [1.0,', "is no JSON"),
    ('{"token_rewards": []}', "token_rewards"),
    ('{"token_rewards": [1, 2], "entropies": [1.0]}', "1 entries for 2 token rewards"),
    ('{"token_rewards": [1], "segmenter": {"name": "tarot"}}', "tarot"),
    ('{"token_rewards": ["high"]}', "token_rewards.0"),
    ('{"token_rewards": [1], "delta": 0.3}', "delta"),
])  # fmt: skip
def test_what_is_wrong_is_said_and_the_status_is_2(body: str, said: str) -> None:
    found = CliRunner().invoke(app, ["segment", "-", "--json"], input=body)

    assert found.exit_code == 2
    assert said in " ".join(found.stderr.split())
    assert found.stdout == ""
