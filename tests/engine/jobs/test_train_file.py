"""Training from a file into a folder: configuration, curves that survive a kill, rows of every kind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine.errors import RequestError, RowsRefused
from engine.jobs.train_file import read_config, train_file
from tests.engine.training.worlds import write_world

CONFIG = """
method: dpo
model: model
rows: rows.jsonl
supervision: {density: segment, source: spans}
optimisation: {steps: 12, batch_size: 4, learning_rate: 0.001}
keeping: {checkpoint_every: 3}
"""


def silent(progress: object = None, chunk: object = None, message: object = None) -> None:
    pass


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_world(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_file_gives_a_model_and_its_curves(config: Path, tmp_path: Path) -> None:
    result = train_file(read_config(config), tmp_path / "out", silent)
    assert [line["step"] for line in lines(tmp_path / "out")] == list(range(13))
    assert lines(tmp_path / "out")[-1]["train/loss"] == result["metrics"]["train/loss"]
    assert (tmp_path / "out" / "final" / "model.safetensors").exists()


def test_a_training_killed_at_any_moment_goes_on_to_the_same_bits(config: Path, tmp_path: Path) -> None:
    train_file(read_config(config), tmp_path / "straight", silent)
    killed = tmp_path / "killed"
    command = [sys.executable, "-P", "-m", "rewardscope", "train", str(config), "--out", str(killed)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for at in (1, 2):
        process = subprocess.Popen(
            command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
        )
        _wait_for_checkpoint(killed, 3 * at, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (killed / "final").exists()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    ours, theirs = (
        load_file(tmp_path / name / "final" / "model.safetensors") for name in ("straight", "killed")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert [line["step"] for line in lines(killed)] == list(range(13))
    for one, other in zip(lines(tmp_path / "straight"), lines(killed), strict=True):
        told = {name: value for name, value in one.items() if not name.startswith("system/")}
        assert told == {name: value for name, value in other.items() if not name.startswith("system/")}


def _wait_for_checkpoint(folder: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 120
    while not (folder / "checkpoints" / f"step-{step:06d}").exists():
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < give_up
        time.sleep(0.005)


def test_changes_stand_on_top_of_the_file(config: Path) -> None:
    asked = read_config(config, ["optimisation.steps=3", "method.beta=0.5", "lora={rank: 2}"])
    assert asked.optimisation.steps == 3
    assert asked.method.model_dump()["beta"] == 0.5
    assert asked.lora is not None
    assert asked.lora.rank == 2


def test_every_refused_field_is_named(config: Path) -> None:
    with pytest.raises(RequestError, match=r"`optimisation\.steps`.*`nonsense`"):
        read_config(config, ["optimisation.steps=none", "nonsense=1"])
    with pytest.raises(RequestError, match="magic"):
        read_config(config, ["method=magic"])
    with pytest.raises(RequestError, match="write it as"):
        read_config(config, ["optimisation.steps"])


def test_a_folder_of_another_training_is_left_alone(config: Path, tmp_path: Path) -> None:
    train_file(read_config(config), tmp_path / "out", silent)
    with pytest.raises(RequestError, match="holds another training"):
        train_file(read_config(config, ["optimisation.seed=1"]), tmp_path / "out", silent)


def test_rows_that_cannot_be_read_are_named_before_anything_is_trained(config: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(rows.read_text() + '{"prompt": 3}\n')
    with pytest.raises(RowsRefused) as refused:
        train_file(read_config(config), tmp_path / "out", silent)
    assert refused.value.rows[0].line == 25
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_rows_of_a_split_are_trained_on_and_identical_sides_told_of(config: Path, tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    row = {"prompt": "Say", "chosen": " it.", "rejected": " it."}
    rows = (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "both" / "train.jsonl").write_text(rows + json.dumps(row) + "\n")
    (tmp_path / "both" / "test.jsonl").write_text('{"prompt": 3}\n')
    told: list[object] = []

    result = train_file(
        read_config(config, ["rows=both", "split=train", "optimisation.steps=1"]),
        tmp_path / "out",
        lambda progress=None, chunk=None, message=None: told.append(message),
    )

    same = "Chosen and rejected say the same in 1 pair, which prefers nothing."
    assert result["notes"][0] == same
    assert same in told


@pytest.mark.parametrize(("change", "length"), [("steps=400", (400, None)), ("epochs=2", (None, 2.0))])
def test_a_length_that_is_set_stands_instead_of_the_files_own(tmp_path, change, length):
    path = tmp_path / "config.yaml"
    for own in ("epochs: 1", "steps: 7"):
        path.write_text(f"method: dpo\nmodel: base\nrows: pairs.jsonl\noptimisation: {{{own}}}\n")
        optimisation = read_config(path, [f"optimisation.{change}"]).optimisation
        assert (optimisation.steps, optimisation.epochs) == length
