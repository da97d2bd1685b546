"""A job that tells what a training tells, without a model: its loss is 1/step, its final model the one that
it began with. A file `die-at` beside the run's folder says after which update its process is killed, once."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

from engine.formats.maps import read_maps
from engine.jobs.protocol import ReportCallable
from engine.training.reports import CheckpointSaved, MetricPoints, TrainingBegins
from engine.types import Progress

NAME = "tests.app.training_job"
EVERY = 3
"""Updates between two checkpoints, of which two are kept."""


def run(request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
    folder = Path(request["folder"])
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    asked = request["request"]
    steps = asked["optimisation"]["steps"]
    there = sorted(int(path.name.removeprefix("step-")) for path in (folder / "checkpoints").iterdir())
    begun = there[-1] if there else 0
    settled = {"request": asked, "data_hash": request["origin"]["data_hash"], "versions": {"torch": "0"}}
    report(chunk=TrainingBegins(begun, steps, settled))
    for step in range(begun + 1, steps + 1):
        points = {"train/loss": [(step, 1 / step)], "train/attempt_began": [(step, float(begun))]}
        report(Progress("training", step, steps, "steps"), MetricPoints(step - 1, step, points))
        if step % EVERY == 0:
            there = save(folder, there, step, report)
        if (folder.parent / "die-at").exists() and (folder.parent / "die-at").read_text() == str(step):
            (folder.parent / "die-at").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
    shutil.copytree(asked["model"]["path"], folder / "final", dirs_exist_ok=True)
    return {
        "steps": steps,
        "seconds": 1.0,
        "tokens": 100,
        "model": str(folder / "final"),
        "best_step": None,
        "metrics": {"train/loss": 1 / steps},
        "notes": [],
        "settled": settled,
        "device": asked["machine"]["device"],
        "rows": Path(request["rows"]).read_text(),
        "maps": None if request["rewards"] is None else len(list(read_maps(Path(request["rewards"])))),
        "suites": request["suites"],
    }


def save(folder: Path, there: list[int], step: int, report: ReportCallable) -> list[int]:
    path = folder / "checkpoints" / f"step-{step}"
    path.mkdir()
    (path / "weights").write_bytes(bytes(10))
    kept = [*there, step][-2:]
    for old in {*there} - {*kept}:
        shutil.rmtree(folder / "checkpoints" / f"step-{old}")
    report(chunk=CheckpointSaved(step, str(path), 10, {"held_out/loss": 1 / step}, step == EVERY, kept))
    return kept
