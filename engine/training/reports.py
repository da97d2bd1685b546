"""What a training job reports while it runs: where it begins, points of its curves, checkpoints. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.types import RewardMap


@dataclass(frozen=True, slots=True)
class TrainingBegins:
    """An attempt goes on after `step` updates: points and checkpoints of later steps are void."""

    step: int
    steps: int
    """Updates that the whole training makes."""
    resolved: Mapping[str, Any] = field(default_factory=dict)
    """The request with nothing left open, package versions, git revision, data hash, device."""


@dataclass(frozen=True, slots=True)
class MetricPoints:
    """Points of curves of the updates [start, end), each after so many updates as its step says."""

    start: int
    """Updates made before the first of these points' updates: where a repeated report is recognised."""
    end: int
    points: Mapping[str, Sequence[tuple[int, float]]]
    """By metric: (step, value), ascending; step 1 is what the first update showed. Finite values only."""


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """A checkpoint that is on disk, whole."""

    step: int
    path: str
    bytes: int
    metrics: Mapping[str, float]
    """Held-out metrics at that step, if they were looked at."""
    is_best: bool
    kept: Sequence[int]
    """Steps of all checkpoints that are still there, this one included."""


TrainingReport = TrainingBegins | MetricPoints | CheckpointSaved


@dataclass(frozen=True, slots=True)
class Traced:
    """What a job of traces found, all at once."""

    steps: list[int]
    """In order, from 0."""
    maps: list[RewardMap]
    """One a response, in the order of the pairs, chosen before rejected: in `rewards` the implicit reward of
    each step, by `track_of`; in `totals` the sum of each; `reference_logprobs` is what all are taken from."""


def track_of(step: int) -> str:
    """What the rewards of a step are called among the tracks of a map."""
    return f"step-{step:06d}"
