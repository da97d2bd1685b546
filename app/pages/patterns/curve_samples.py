"""Made-up curves for /patterns: what trainings leave sooner or later, by a fixed generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from random import Random
from typing import Any

from app.pages.parts.training_curves import CurveRun, CurvesPanel, curves_data, lines_of
from app.services.runs.metrics import Series, points_of

NAMES = (
    "sample",
    "step",
    "token",
    "segment",
    "sample + scorer data",
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
        "train/loss": _series([10 ** (-30 + 60 * step / 79) for step in range(80)]),
        "train/kl": _series([-1e-12, 0.0, 5e-13] * 20),
        "train/gradient_norm": _series([1.7e308 if step == 45 else 1e-3 for step in range(90)]),
        "train/learning_rate": _series([3e-6] * 50),
        "a metric that nobody knows and whose name is much too long for its chart/and goes on": _series(
            range(7)
        ),
    }
    single = {"train/loss": _series([0.69])}
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


def _series(values: Sequence[float], every: int = 1, count: int | None = None) -> Series:
    points = points_of([(number * every, value) for number, value in enumerate(values, start=1)])
    return Series(points, count or len(values), binned=count is not None)


def _learning(seed: int, steps: int) -> dict[str, Series]:
    noise = Random(seed)  # noqa: S311 -- draws a picture
    falling = [exp(-step / (20 + 6 * (seed % 7))) for step in range(steps)]
    accuracies = [1 - 0.5 * share + noise.gauss(0, 0.08) for share in falling]
    return {
        "train/loss": _series([0.2 + 0.5 * share + noise.gauss(0, 0.04) for share in falling]),
        "train/accuracy": _series([min(1.0, max(0.0, one)) for one in accuracies]),
        "held_out/accuracy": _series(
            [min(1.0, max(0.0, 1 - share + noise.gauss(0, 0.02))) for share in falling[9::10]], every=10
        ),
    }


def _everything() -> dict[str, Series]:
    steps = 240
    noise = Random(3)  # noqa: S311 -- draws a picture
    falling = [exp(-step / 60) for step in range(steps)]
    rarely = falling[19::20]

    def noisy(values: Sequence[float], spread: float) -> Series:
        return _series([value + noise.gauss(0, spread) for value in values])

    return {
        **_learning(1, steps),
        "held_out/loss": _series([0.3 + 0.4 * share for share in rarely], every=20),
        "train/margin": noisy([3 * (1 - share) for share in falling], 0.4),
        "train/chosen_reward": noisy([1 - share for share in falling], 0.3),
        "train/rejected_reward": noisy([2 * share - 2 for share in falling], 0.3),
        "train/kept_chosen": noisy([0.81] * steps, 0.02),
        "train/kept_rejected": noisy([0.34] * steps, 0.03),
        "train/all_masked": _series([float(noise.random() < 0.3) for _ in falling]),
        "train/kl": noisy([0.08 * (1 - share) for share in falling], 0.004),
        "train/gradient_norm": _series([exp(noise.gauss(0, 0.6)) for _ in falling]),
        "train/learning_rate": _series([3e-6 * min(1, step / 20) for step in range(1, steps + 1)]),
        "system/tokens_per_second": noisy([15_400.0] * steps, 900),
        "system/memory_bytes": _series([3.1 * 2**30] * steps, count=100_000),
        "suite/known errors/all": _series([0.4 + 0.3 * (1 - share) for share in rarely], every=20),
        "suite/known errors/arithmetic": _series([0.3 + 0.4 * (1 - share) for share in rarely], every=20),
        "suite/known errors/geography": _series([0.5 + 0.2 * (1 - share) for share in rarely], every=20),
    }
