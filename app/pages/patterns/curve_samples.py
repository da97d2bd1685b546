"""Made-up curves for /patterns: what trainings leave sooner or later, by a fixed generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.pages.parts.training_curves import CurveRun, CurvesPanel, curves_data, lines_of
from app.services.runs.metrics import Points, Series

NAMES = (
    "sample",
    "step",
    "token",
    "segment",
    "union",
    "DPO, segment, β = 0.1, learning rate 3e-6, a name into which somebody wrote everything, twice",
)


@dataclass(frozen=True, slots=True)
class CurveSample:
    """Curves that are hard to show."""

    title: str
    curves: CurvesPanel


def curve_samples() -> list[CurveSample]:
    """One run with all that is told, twelve laid over each other, extremes, a single point, none."""
    many = {_named(number): _learning(number + 10, 150) for number in range(12)}
    extreme = {
        "train/loss": _series(np.geomspace(1e-30, 1e30, 80)),
        "train/kl": _series(np.array([-1e-12, 0.0, 5e-13] * 20)),
        "train/gradient_norm": _series(np.where(np.arange(90) == 45, 1.7e308, 1e-3)),
        "train/learning_rate": _series(np.full(50, 3e-6)),
        "a metric that nobody knows and whose name is much too long for its chart/and goes on": _series(
            np.arange(7.0)
        ),
    }
    single = {"train/loss": _series(np.array([0.69]))}
    return [
        CurveSample("Curves of a run", _panel("run", {"run": _everything()}, compares=False)),
        CurveSample("Twelve runs", _panel("twelve", many, compares=True)),
        CurveSample("Extreme values", _panel("extreme", {"run": extreme}, compares=False)),
        CurveSample("A single point", _panel("one", {"run": single}, compares=False)),
        CurveSample("No point yet", _panel("none", {"run": {}}, compares=False)),
    ]


def _named(number: int) -> str:
    return NAMES[number % len(NAMES)] + ("" if number < len(NAMES) else " (seed 1)")


def _panel(key: str, runs: Mapping[str, Mapping[str, Series]], *, compares: bool) -> CurvesPanel:
    shown = [
        CurveRun(number, name, None, None, False, {metric: _told(one) for metric, one in series.items()})
        for number, (name, series) in enumerate(runs.items(), start=1)
    ]
    lines = [line for name, series in runs.items() for line in lines_of(series, name if compares else "")]
    return CurvesPanel(
        key=f"sample-{key}",
        compares=compares,
        data=curves_data(shown, compares=compares, total=None),
        lines=lines,
        empty="The curves begin with the first step.",
    )


def _told(series: Series) -> dict[str, Any]:
    return {
        "steps": series.points.steps.tolist(),
        "values": series.points.values.tolist(),
        "points": series.count,
        "binned": series.binned,
    }


def _series(values: np.ndarray, every: int = 1, count: int | None = None) -> Series:
    steps = (np.arange(len(values)) + 1) * every
    return Series(Points(steps.astype(np.int32), values), count or len(values), binned=count is not None)


def _learning(seed: int, steps: int) -> dict[str, Series]:
    generator = np.random.default_rng(seed)
    falling = np.exp(-np.arange(steps) / (20 + 6 * (seed % 7)))
    looks = 1 - falling[9::10] + generator.normal(0, 0.02, len(falling[9::10]))
    return {
        "train/loss": _series(0.2 + 0.5 * falling + generator.normal(0, 0.04, steps)),
        "train/accuracy": _series(np.clip(1 - 0.5 * falling + generator.normal(0, 0.08, steps), 0, 1)),
        "held_out/accuracy": _series(np.clip(looks, 0, 1), every=10),
    }


def _everything() -> dict[str, Series]:
    steps = 240
    generator = np.random.default_rng(3)
    falling = np.exp(-np.arange(steps) / 60)

    def noisy(values: np.ndarray, spread: float) -> Series:
        return _series(values + generator.normal(0, spread, steps))

    return {
        **_learning(1, steps),
        "held_out/loss": _series(0.3 + 0.4 * falling[19::20], every=20),
        "train/margin": noisy(3 * (1 - falling), 0.4),
        "train/chosen_reward": noisy(1 - falling, 0.3),
        "train/rejected_reward": noisy(2 * falling - 2, 0.3),
        "train/kept_chosen": noisy(np.full(steps, 0.81), 0.02),
        "train/kept_rejected": noisy(np.full(steps, 0.34), 0.03),
        "train/all_masked": _series(generator.poisson(0.3, steps).astype(float)),
        "train/kl": noisy(0.08 * (1 - falling), 0.004),
        "train/gradient_norm": _series(np.exp(generator.normal(0, 0.6, steps))),
        "train/learning_rate": _series(3e-6 * np.minimum(1, np.arange(1, steps + 1) / 20)),
        "system/tokens_per_second": noisy(np.full(steps, 15_400.0), 900),
        "system/memory_bytes": _series(np.full(steps, 3.1 * 2**30), count=100_000),
        "suite/known errors/all": _series(0.4 + 0.3 * (1 - falling[19::20]), every=20),
        "suite/known errors/arithmetic": _series(0.3 + 0.4 * (1 - falling[19::20]), every=20),
        "suite/known errors/geography": _series(0.5 + 0.2 * (1 - falling[19::20]), every=20),
    }
