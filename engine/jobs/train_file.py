"""Trains from a file into a folder, without a server.

The folder holds what a run leaves: `metrics.jsonl`, one line a step; `training.yaml`, what was asked;
checkpoints; and the model in `final`. The same command again goes on where the last one ended.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from engine.errors import RequestError, RowError, RowsRefused
from engine.fields import shown
from engine.formats.atomic import atomic_file
from engine.formats.canonical import write_pairs, write_tasks
from engine.formats.chosen_by import ChosenBy
from engine.formats.pairs import about_identical
from engine.formats.reading import read, read_tasks
from engine.jobs import train
from engine.jobs.protocol import ReportCallable
from engine.training.reports import MetricPoints, TrainingBegins
from engine.training.request import TrainingRequest
from engine.types import PreferencePair, Progress

CONFIG, METRICS = "training.yaml", "metrics.jsonl"
MOST_REFUSED = 20
MODELS = ("model", "reference", "scorer", "scorer_reference", "reward_model")


ALTERNATIVES = {
    "optimisation.steps": "epochs",
    "optimisation.epochs": "steps",
}
"""Of a field that is set on top of a file, the neighbour in the file that it stands instead of."""


class TrainingConfig(TrainingRequest):
    """A file for `rewardscope train`: a training, and the files that it reads. A model may be a mere path."""

    rows: list[Path] = Field(min_length=1, title="Rows")
    """Preference pairs in any format that can be read; several files follow one another."""
    chosen_by: str | None = Field(None, title="Chosen by", json_schema_extra=shown(blank="what the rows say"))
    """Which of single, scored responses are preferred: a column, or one with a threshold (`reward>0.5`)."""
    split: str | None = Field(None, title="Split", json_schema_extra=shown(blank="the only one"))
    """Which split of folders with several is read, such as `train`."""
    rewards: Path | None = Field(None, title="Reward maps", json_schema_extra=shown(blank="none"))
    """Written by `rewardscope score` from the same rows, for the mask."""
    suites: list[Path] = Field(default_factory=list, title="Task suites")
    """Answered every few steps while the model learns."""
    allow_code: bool = Field(False, title="Allow code")
    """Whether tasks may run what the model writes."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        short = dict(values)
        for name in MODELS:
            if isinstance(short.get(name), str):
                short[name] = {"path": short[name]}
        if isinstance(short.get("method"), str):
            short["method"] = {"name": short["method"]}
        if isinstance(short.get("rows"), str):
            short["rows"] = [short["rows"]]
        return short

    def request(self) -> TrainingRequest:
        """The training alone."""
        return TrainingRequest.model_validate(
            {name: getattr(self, name) for name in TrainingRequest.model_fields}
        )


def read_config(path: Path, changes: Iterable[str] = ()) -> TrainingConfig:
    """The configuration of a YAML or JSON file, with changes such as `optimisation.steps=100` on top.

    Paths in the file are seen from its folder. Raises RequestError, with every field that is refused.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise RequestError(f"`{path}` cannot be read as YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(values, dict):
        raise RequestError(f"`{path}` holds no fields; docs/training.md says which there are.")
    for change in changes:
        _set(values, change)
    try:
        config = TrainingConfig.model_validate(values)
    except ValidationError as error:
        faults = [f"`{'.'.join(str(part) for part in one['loc'])}`: {one['msg']}" for one in error.errors()]
        raise RequestError(f"`{path}` is refused. " + "; ".join(faults) + ".") from error
    return _seen_from(config, path.absolute().parent)


def train_file(config: TrainingConfig, folder: Path, report: ReportCallable) -> dict[str, Any]:
    """Trains into `folder`; what `jobs.train.run` returns.

    Raises RequestError where the folder holds another training, RowsRefused and DataError for what cannot be
    read, and what training raises.
    """
    first = int(os.environ.get("RANK", "0")) == 0
    folder.mkdir(parents=True, exist_ok=True)
    config = _dated(config, folder / CONFIG)
    if first:
        _claim(folder, config)
    with tempfile.TemporaryDirectory(prefix="rewardscope-rows-") as scratch:
        rows, told = Path(scratch) / "rows.jsonl", list[str]()
        write_pairs(rows, _pairs(config, told))
        request = {
            "request": config.request().model_dump(mode="json"),
            "rows": str(rows),
            "rewards": None if config.rewards is None else str(config.rewards),
            "suites": _suites(config.suites, Path(scratch)),
            "allow_code": config.allow_code,
            "folder": str(folder.absolute()),
            "origin": {"dataset": ", ".join(path.name for path in config.rows)},
        }
        for sentence in told if first else ():
            report(message=sentence)
        result = train.run(request, MetricsFile(folder / METRICS, report) if first else _silent)
        return {**result, "notes": [*told, *result["notes"]]}


class MetricsFile:
    """A report that also keeps the curves: one JSON object a step, `{"step": 3, "train/loss": 0.7, ...}`."""

    def __init__(self, path: Path, report: ReportCallable) -> None:
        self._path = path
        self._report = report
        self._lines: dict[int, dict[str, float]] = {}

    def __call__(
        self, progress: Progress | None = None, chunk: object = None, message: str | None = None
    ) -> None:
        if isinstance(chunk, TrainingBegins):
            self._lines = {step: line for step, line in _read_lines(self._path) if step <= chunk.step}
            self._write()
        if isinstance(chunk, MetricPoints):
            for name, points in chunk.points.items():
                for step, value in points:
                    self._lines.setdefault(step, {})[name] = value
            self._write()
        self._report(progress, chunk, message)

    def _write(self) -> None:
        with atomic_file(self._path) as file:
            for step in sorted(self._lines):
                file.write(json.dumps({"step": step, **self._lines[step]}).encode() + b"\n")


def _read_lines(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        yield int(line.pop("step")), line


def _dated(config: TrainingConfig, kept: Path) -> TrainingConfig:
    """The training with the date that its templates write: that of the day when it was first asked for, so
    that one which goes on later reads the same texts."""
    if config.data.template_date is not None:
        return config
    day: date | None = date.today()
    if kept.exists():
        asked = yaml.safe_load(kept.read_text(encoding="utf-8"))
        written = (asked.get("data") or {}).get("template_date")
        day = None if written is None else date.fromisoformat(str(written))
    return config.model_copy(update={"data": config.data.model_copy(update={"template_date": day})})


def _claim(folder: Path, config: TrainingConfig) -> None:
    """Keeps what was asked in the folder, or finds the same there."""
    asked = yaml.safe_dump(config.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
    kept = folder / CONFIG
    if kept.exists() and kept.read_text(encoding="utf-8") != asked:
        raise RequestError(
            f"`{folder}` holds another training (see {CONFIG} there); choose a new folder, or ask for the "
            "same."
        )
    with atomic_file(kept) as file:
        file.write(asked.encode())


def _pairs(config: TrainingConfig, told: list[str]) -> Iterator[PreferencePair]:
    """The rows of all files; `told` hears of those whose sides say the same."""
    seen: set[str] = set()
    identical = 0
    for path in config.rows:
        refused: list[RowError] = []
        rule = None if config.chosen_by is None else ChosenBy.parse(config.chosen_by)
        for row in read(path, chosen_by=rule, split=config.split):
            if isinstance(row, RowError):
                refused.append(row)
                if len(refused) == MOST_REFUSED:
                    break
            elif not refused:
                identical += row.says_the_same
                key = row.key if row.key not in seen else f"{path.stem}: {row.key}"
                seen.add(key)
                yield row if key == row.key else _renamed(row, key)
        if refused:
            raise RowsRefused(f"`{path}` has rows that cannot be read; mend or remove them.", refused)
    if identical:
        told.append(about_identical(identical))


def _renamed(row: PreferencePair, key: str) -> PreferencePair:
    return PreferencePair(key, row.prompt, row.chosen, row.rejected, row.meta)


def _suites(paths: Sequence[Path], scratch: Path) -> list[dict[str, str]]:
    suites = []
    for number, path in enumerate(paths):
        tasks = []
        for task in read_tasks(path):
            if isinstance(task, RowError):
                raise task
            tasks.append(task)
        place = scratch / f"suite-{number}.jsonl"
        write_tasks(place, tasks)
        suites.append({"name": path.stem, "path": str(place)})
    return suites


def _set(values: dict[str, Any], change: str) -> None:
    name, equals, text = change.partition("=")
    if not equals or not name:
        raise RequestError(f"`{change}` changes nothing; write it as `optimisation.steps=100`.")
    *above, last = name.strip().split(".")
    inner = values
    for part in above:
        if isinstance(inner.get(part), str):  # A short form: the name of a method, the path of a model.
            inner[part] = {"name" if part == "method" else "path": inner[part]}
        inner = inner.setdefault(part, {})
        if not isinstance(inner, dict):
            raise RequestError(f"`{name}` cannot be set: `{part}` has no fields.")
    inner[last] = yaml.safe_load(text)
    inner.pop(ALTERNATIVES.get(name.strip(), ""), None)


def _seen_from(config: TrainingConfig, folder: Path) -> TrainingConfig:
    """Files as seen from the folder of the configuration, where they lie there."""

    def placed(path: Path) -> Path:
        return path if path.is_absolute() else folder / path

    changes: dict[str, Any] = {
        "rows": [placed(path) for path in config.rows],
        "suites": [placed(path) for path in config.suites],
        "rewards": None if config.rewards is None else placed(config.rewards),
    }
    for name in MODELS:
        model = getattr(config, name)
        if model is not None and (folder / model.path).is_dir():
            changes[name] = model.model_copy(update={"path": str((folder / model.path).resolve())})
    return config.model_copy(update=changes)


def _silent(progress: Progress | None = None, chunk: object = None, message: str | None = None) -> None:
    """The report of a process that is not the first."""
