"""`rewardscope score`: a file of pairs into a file of reward maps, without a server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from app.cli import app

PAIRS: list[dict[str, Any]] = [
    {
        "id": "capital",
        "prompt": "The capital of France is",
        "chosen": " Paris, and the sky is green.",
        "rejected": " Rome, and the sky is blue.",
        "chosen_spans": [[20, 28, "wrong"]],
        "rejected_spans": [[1, 5, "wrong"]],
    },
    {"id": "emoji", "prompt": "Smile:", "chosen": " 👩‍👩‍👧 e\u0301 漢字", "rejected": " :-)"},
    {"id": "one side", "prompt": "Say it.", "chosen": None, "rejected": "it"},
]
FIELDS = {
    "id", "side", "tokens", "offsets", "logprobs", "reference_logprobs", "entropies",
    "token_rewards", "signal", "pivots", "segments", "mask",
}  # fmt: skip
ModelFolder = Callable[..., Path]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write(tmp_path / "pairs.jsonl", PAIRS)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def score(file: Path, out: Path, *options: object) -> Any:
    return CliRunner().invoke(app, ["score", str(file), "--out", str(out), *map(str, options)])


@pytest.fixture
def models(model_folder: ModelFolder) -> list[object]:
    return ["--policy", model_folder("llama", 0), "--reference", model_folder("llama", 1)]


def test_every_response_becomes_a_line_whose_offsets_cover_its_text(
    pairs: Path, models: list[object], tmp_path: Path
) -> None:
    found = score(pairs, tmp_path / "maps.jsonl", *models, "--json")

    assert found.exit_code == 0, found.output
    records = [json.loads(line) for line in (tmp_path / "maps.jsonl").read_text().splitlines()]
    texts = {(row["id"], side): row[side] for row in PAIRS for side in ("chosen", "rejected") if row[side]}
    assert [(record["id"], record["side"]) for record in records] == list(texts)
    for record in records:
        assert record.keys() == FIELDS
        text = texts[record["id"], record["side"]]
        covered = {place for start, end in record["offsets"] for place in range(start, end)}
        assert covered == set(range(len(text)))
        segments = record["segments"]["implicit"]
        assert [one["start"] for one in segments[1:]] == record["pivots"]["implicit"]
        assert [segments[0]["start"], segments[-1]["end"]] == [0, len(record["tokens"])]
        assert len(record["mask"]["implicit"]) == len(record["token_rewards"]["implicit"])
    figures = json.loads(found.stdout)
    assert figures["responses"] == 5
    assert figures["sources"]["implicit"]["wrong_tokens"] > 0


def test_parquet_says_the_same_as_jsonl(pairs: Path, models: list[object], tmp_path: Path) -> None:
    score(pairs, tmp_path / "maps.jsonl", *models)
    score(pairs, tmp_path / "maps.parquet", *models)

    lines = [json.loads(line) for line in (tmp_path / "maps.jsonl").read_text().splitlines()]
    rows = pq.read_table(tmp_path / "maps.parquet").to_pylist()
    assert [row["id"] for row in rows] == [line["id"] for line in lines]
    assert [row["mask"]["implicit"] for row in rows] == [line["mask"]["implicit"] for line in lines]


def test_the_rule_of_the_options_is_the_rule_that_cuts(
    pairs: Path, models: list[object], tmp_path: Path
) -> None:
    score(pairs, tmp_path / "fixed.jsonl", *models, "--segmenter", "fixed", "--length", 2)

    record = json.loads((tmp_path / "fixed.jsonl").read_text().splitlines()[0])
    assert record["pivots"]["implicit"] == list(range(2, len(record["tokens"]), 2))


def test_how_well_errors_are_found_does_not_hang_on_the_rule(
    pairs: Path, models: list[object], tmp_path: Path
) -> None:
    """The rewards are measured, not how they are cut: the same figure as on the page of the data set."""
    found = [
        json.loads(score(pairs, tmp_path / "maps.jsonl", *models, *rule, "--json").stdout)
        for rule in ([], ["--baseline", "sequence_mean"], ["--smoothing", "median"])
    ]

    figures = [one["sources"]["implicit"]["auroc"] for one in found]
    assert figures[0] is not None
    assert figures == [figures[0]] * 3


def test_several_sources_stand_side_by_side(
    pairs: Path, models: list[object], model_folder: ModelFolder, tmp_path: Path
) -> None:
    found = score(
        pairs, tmp_path / "maps.jsonl", *models, "--reward-model", model_folder("reward"),
        "--source", "implicit", "--source", "rm_increment", "--source", "rm_prefix", "--source", "spans",
        "--json",
    )  # fmt: skip

    assert found.exit_code == 0, found.output
    first = json.loads((tmp_path / "maps.jsonl").read_text().splitlines()[0])
    assert list(first["token_rewards"]) == ["implicit", "rm_increment", "rm_prefix", "spans"]
    assert -1.0 in first["token_rewards"]["spans"]


@pytest.mark.parametrize(("rows", "said"), [
    ('{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": "a", "cho', "line 2"),
    ('{"prompt": "a", "chosen": 3, "rejected": "c"}\n', "chosen"),
    ('{"prompt": "a", "chosen": "", "rejected": "c"}\n', "chosen"),
    ('{"prompt": "a", "chosen": "b", "chosen_token_rewards": [1, "x"]}\n', "chosen_token_rewards"),
])  # fmt: skip
def test_a_bad_row_is_named_and_nothing_is_written(
    rows: str, said: str, models: list[object], tmp_path: Path
) -> None:
    (tmp_path / "bad.jsonl").write_text(rows)

    found = score(tmp_path / "bad.jsonl", tmp_path / "maps.jsonl", *models)

    assert found.exit_code == 2
    assert said in " ".join(found.stderr.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl"]


def test_bad_rows_can_be_left_out(models: list[object], tmp_path: Path) -> None:
    (tmp_path / "some.jsonl").write_text('{"prompt": "a", "chosen": "b"}\n{"prompt": 1}\n')

    found = score(tmp_path / "some.jsonl", tmp_path / "maps.jsonl", *models, "--on-error", "skip", "--json")

    assert json.loads(found.stdout)["skipped"] == 1
    assert len((tmp_path / "maps.jsonl").read_text().splitlines()) == 1


def test_however_many_rows_are_left_out_the_others_are_written(models: list[object], tmp_path: Path) -> None:
    rows = ['{"prompt": 1}\n'] * 150 + ['{"prompt": "a", "chosen": "b"}\n']
    (tmp_path / "some.jsonl").write_text("".join(rows))

    found = score(tmp_path / "some.jsonl", tmp_path / "maps.jsonl", *models, "--on-error", "skip", "--json")

    assert json.loads(found.stdout)["skipped"] == 150
    assert len((tmp_path / "maps.jsonl").read_text().splitlines()) == 1


def test_rows_whose_tokens_do_not_fit_are_left_out_by_name(models: list[object], tmp_path: Path) -> None:
    rows = [
        {"id": "good", "prompt": "a", "chosen": "b"},
        {"id": "endless", "prompt": "a", "chosen": "na " * 25_000},
        {"id": "short", "prompt": "a", "chosen": "some words", "chosen_token_rewards": [0.5]},
        {"id": "last", "prompt": "a", "chosen": "c"},
    ]
    file = write(tmp_path / "some.jsonl", rows)
    options = [*models, "--source", "implicit", "--source", "external"]

    refused = score(file, tmp_path / "maps.jsonl", *options)
    assert refused.exit_code == 2
    assert "2 rows" in refused.stderr
    assert "endless" in refused.stderr
    assert "short" in refused.stderr

    found = score(file, tmp_path / "maps.jsonl", *options, "--on-error", "skip")
    assert found.exit_code == 0, found.output
    assert "2 rows skipped" in found.stdout
    assert "endless" in found.stderr
    records = [json.loads(line) for line in (tmp_path / "maps.jsonl").read_text().splitlines()]
    assert [record["id"] for record in records] == ["good", "last"]


def test_an_ending_that_means_nothing_is_said_before_anything_is_read(
    models: list[object], tmp_path: Path
) -> None:
    found = score(write(tmp_path / "bad.jsonl", [{"prompt": 3}]), tmp_path / "maps.txt", *models)

    assert found.exit_code == 2
    assert "must end in" in found.stderr


def test_being_told_to_end_leaves_nothing_behind(models: list[object], tmp_path: Path) -> None:
    rows = [{"id": str(n), "prompt": "a", "chosen": " long enough" * 40} for n in range(2_000)]
    file = write(tmp_path / "many.jsonl", rows)
    command = [sys.executable, "-m", "rewardscope", "score", str(file)]
    running = subprocess.Popen([*command, "--out", str(tmp_path / "maps.jsonl"), *map(str, models)])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".rewardscope-*/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.terminate()

    assert running.wait(30) == 128 + signal.SIGTERM
    assert [path.name for path in tmp_path.iterdir()] == ["many.jsonl"]


def test_a_response_that_is_too_long_is_named_and_nothing_is_written(
    models: list[object], tmp_path: Path
) -> None:
    file = write(tmp_path / "long.jsonl", [{"id": "endless", "prompt": "a", "chosen": "na " * 25_000}])

    found = score(file, tmp_path / "maps.jsonl", *models)

    assert found.exit_code == 2
    assert "endless" in found.stderr
    assert not (tmp_path / "maps.jsonl").exists()


def test_token_rewards_of_the_wrong_length_are_refused(models: list[object], tmp_path: Path) -> None:
    rows = [{"id": "short", "prompt": "a", "chosen": "some words", "chosen_token_rewards": [0.5]}]
    file = write(tmp_path / "short.jsonl", rows)

    found = score(file, tmp_path / "maps.jsonl", *models, "--source", "external")

    assert found.exit_code == 2
    assert "short" in found.stderr


@pytest.mark.parametrize(("options", "said"), [
    ([], "--policy"),
    (["--policy", "/no/such/folder", "--reference", "/no/such/folder"], "/no/such/folder"),
    (["--reward-model", "somewhere", "--source", "tarot"], "tarot"),
    (["--policy", "a", "--reference", "b", "--segmenter", "tarot"], "tarot"),
    (["--policy", "a", "--source", "implicit"], "reference"),
])  # fmt: skip
def test_options_that_cannot_work_are_refused_with_a_reason(
    options: list[str], said: str, pairs: Path, tmp_path: Path
) -> None:
    found = score(pairs, tmp_path / "maps.jsonl", *options)

    assert found.exit_code == 2
    assert said in " ".join(found.stderr.split())
    assert not (tmp_path / "maps.jsonl").exists()


def test_a_place_that_cannot_be_written_is_said_before_anything_is_loaded(
    pairs: Path, models: list[object], tmp_path: Path
) -> None:
    found = score(pairs, tmp_path / "nowhere" / "maps.jsonl", *models)

    assert found.exit_code == 2
    assert "nowhere" in found.stderr
