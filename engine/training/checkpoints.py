"""Checkpoints: all that a training needs to go on as if nothing had happened, whole on disk or not at all.

A folder a checkpoint, `step-000120`, with

    weights.safetensors    every trained weight, the value head's included
    optimiser.pt           Adam's moments
    state.json             step, metrics, what the method keeps, which checkpoint was best, generators

Schedule and place in the data are functions of the step. A folder is written beside its place, synced and
renamed, so that a crash leaves the old ones and no half of a new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from engine.errors import DataError, ResourceError
from engine.training.trained_model import TrainedModel, weights_of

WEIGHTS, OPTIMISER, STATE = "weights.safetensors", "optimiser.pt", "state.json"
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True, slots=True)
class Best:
    """The best evaluation so far."""

    step: int
    value: float


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """What a checkpoint carries beside tensors."""

    step: int
    metrics: dict[str, float] = field(default_factory=dict)
    """The last evaluation."""
    method: dict[str, Any] = field(default_factory=dict)
    best: Best | None = None
    tokens: int = 0
    """Tokens that were read for updates so far."""


class Checkpoints:
    """The checkpoints of one training, in one folder."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self._folder = folder
        self._keep = keep

    def latest(self) -> Path | None:
        """The checkpoint of the highest step, None before the first."""
        return max(self._all(), key=_step, default=None)

    def save(self, model: TrainedModel, optimiser: torch.optim.Optimizer, state: CheckpointState) -> Path:
        """Writes a checkpoint and removes those that need not stay. Raises ResourceError on a full disk."""
        self._folder.mkdir(parents=True, exist_ok=True)
        place = self._folder / f"step-{state.step:06d}"
        with whole_folder(place) as work:
            weights = {name: one.contiguous().cpu() for name, one in weights_of(model).items()}
            save_file(weights, work / WEIGHTS)
            torch.save(optimiser.state_dict(), work / OPTIMISER)
            (work / STATE).write_text(json.dumps(_as_json(state), indent=2) + "\n", encoding="utf-8")
        self._prune(state)
        return place

    def load(self, path: Path, model: TrainedModel, optimiser: torch.optim.Optimizer) -> CheckpointState:
        """Puts weights and moments back. Raises DataError where the checkpoint is of another training."""
        load_weights(path, model)
        try:
            moments = torch.load(path / OPTIMISER, map_location=model.loaded.device, weights_only=True)
            state = _from_json(json.loads((path / STATE).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise _unreadable(path, error) from error
        optimiser.load_state_dict(moments)
        return state

    def kept_steps(self) -> list[int]:
        """Steps of the checkpoints that are there, ascending."""
        return sorted(_step(path) for path in self._all())

    def _all(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return [path for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]

    def _prune(self, state: CheckpointState) -> None:
        """The latest stay, and the best."""
        steps = self.kept_steps()
        staying = set(steps[-self._keep :])
        if state.best is not None:
            staying.add(state.best.step)
        for path in self._all():
            if _step(path) not in staying:
                shutil.rmtree(path, ignore_errors=True)


def load_weights(path: Path, model: TrainedModel) -> None:
    """Puts the weights of a checkpoint, all or an adapter's, onto the model that it is of.

    Raises DataError where they cannot be read, or are of another model, which then stays as it was.
    """
    try:
        weights = load_file(path / WEIGHTS, device=str(model.loaded.device))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    named = model.named_parameters()
    if named.keys() != weights.keys() or any(named[name].shape != one.shape for name, one in weights.items()):
        raise DataError(
            f"The checkpoint `{path}` is of another model; train in a folder of its own, or remove it."
        )
    with torch.no_grad():
        for name, one in named.items():
            one.copy_(weights[name])


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"The checkpoint `{path}` cannot be read ({error}); remove its folder to go on from an earlier one."
    )


def bytes_of(folder: Path) -> int:
    """How much a folder holds."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def whole_folder(place: Path) -> Iterator[Path]:
    """A folder to fill, which then stands at `place` whole; where that is taken, the old one goes first.

    Raises ResourceError when the disk is full.
    """
    work = place.with_name(f".{place.name}.writing")
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
        yield work
        for path in sorted(work.rglob("*")):
            _sync(path)
        _sync(work)
        shutil.rmtree(place, ignore_errors=True)
        work.rename(place)
        _sync(place.parent)
    except OSError as error:
        raise ResourceError(
            f"`{place}` cannot be written ({error.strerror or error}); free some space, or choose another "
            "folder."
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _step(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    assert found is not None
    return int(found[1])


def _as_json(state: CheckpointState) -> dict[str, Any]:
    best = None if state.best is None else {"step": state.best.step, "value": state.best.value}
    return {
        "step": state.step,
        "metrics": state.metrics,
        "method": state.method,
        "best": best,
        "tokens": state.tokens,
    }


def _from_json(values: Mapping[str, Any]) -> CheckpointState:
    best = None if values["best"] is None else Best(**values["best"])
    return CheckpointState(
        values["step"], dict(values["metrics"]), dict(values["method"]), best, values["tokens"]
    )
