"""Curves for a page: which charts there are, whose points they show, and pictures for who has no script.

What is drawn in the browser is made by `static/curves.js`; what it is told is here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fastapi import Request
from markupsafe import Markup
from sqlalchemy.orm import Session

from app.db.tables import JobStatus, Run
from app.pages.parts.numbers import count, plain_number
from app.services.runs import metrics
from app.services.runs.metrics import Points, Series
from engine.training.methods import METHODS

SPARK_POINTS = 120
SPARK_WIDTH, SPARK_HEIGHT = 120, 28

Unit = Literal["", "bytes"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A curve, and what its line is called in a chart of several."""

    name: str
    label: str


@dataclass(frozen=True, slots=True)
class ChartPlan:
    """A chart that is drawn as soon as any of its metrics has a point."""

    group: str
    title: str
    metrics: tuple[Metric, ...]
    unit: Unit = ""


def _plan(group: str, title: str, unit: Unit = "", **metrics: str) -> ChartPlan:
    """A chart; `metrics` are label=name, a label's `_` standing for a space."""
    lines = tuple(Metric(name, label.replace("_", " ")) for label, name in metrics.items())
    return ChartPlan(group, title, lines, unit)


def _of_methods(group: str) -> list[ChartPlan]:
    """The charts of a group that methods declare, each once."""
    curves = [curve for method in METHODS.values() for curve in method.curves if curve.group == group]
    plans = [_plan(group, curve.title, "", **curve.lines) for curve in curves]
    return list(dict.fromkeys(plans))


CHARTS = (
    _plan("loss", "Loss", train="train/loss", held_out="held_out/loss"),
    *_of_methods("loss"),
    _plan("preference", "Margin", train="train/margin", held_out="held_out/margin"),
    _plan("preference", "Accuracy", train="train/accuracy", held_out="held_out/accuracy"),
    _plan("preference", "Rewards", chosen="train/chosen_reward", rejected="train/rejected_reward"),
    *_of_methods("preference"),
    _plan("policy", "Reward", train="train/reward", held_out="held_out/reward"),
    _plan("policy", "Token reward", train="train/token_reward"),
    _plan("policy", "Advantage std", train="train/advantage_std"),
    _plan(
        "mask",
        "Kept tokens",
        chosen="train/kept_chosen",
        rejected="train/kept_rejected",
        sampled="train/kept_fraction",
    ),
    _plan("mask", "Responses without a kept token", train="train/all_masked"),
    *_of_methods("mask"),
    _plan("policy", "KL to the reference", train="train/kl", held_out="held_out/kl"),
    _plan("policy", "KL to the rollouts", train="train/kl_to_old"),
    _plan("policy", "Entropy", train="train/entropy", held_out="held_out/entropy"),
    _plan("policy", "Response tokens", train="train/response_tokens", held_out="held_out/response_tokens"),
    _plan("policy", "Truncation rate", train="train/truncated"),
    _plan("policy", "Clip fraction", train="train/clipped"),
    *_of_methods("policy"),
    _plan("optimiser", "Grad norm", train="train/gradient_norm"),
    _plan("optimiser", "Learning rate", train="train/learning_rate"),
    _plan("machine", "Tokens a second", train="system/tokens_per_second"),
    _plan("machine", "Memory", "bytes", machine="system/memory_bytes", GPU="system/gpu_memory_bytes"),
)
"""Metrics that stand nowhere here get a chart of their own behind these; `suite/<suite>/<category>` get one
for each suite."""

ORDER = {metric.name: place for place, metric in enumerate(m for chart in CHARTS for m in chart.metrics)}
TITLES = {metric.name: (chart, metric) for chart in CHARTS for metric in chart.metrics}


@dataclass(frozen=True, slots=True)
class CurveRun:
    """A run whose points are shown."""

    id: int
    name: str
    metrics: str | None
    """Where its points are; None where `series` brings them."""
    state: str | None
    """Where it says whether it is over."""
    active: bool
    series: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LastValue:
    """A curve in a line: where it stands, and a small picture of how it came there."""

    label: str
    value: str
    step: str
    picture: Markup


@dataclass(frozen=True, slots=True)
class CurvesPanel:
    """What `curves/_curves.html` shows."""

    key: str
    """Part of the ids of its elements: a page may have several."""
    compares: bool
    """Whether a line stands for a run, else for a metric."""
    data: Markup
    """The JSON for the script."""
    lines: list[LastValue]
    """For readers without a script."""
    empty: str


def curves_panel(
    request: Request,
    session: Session,
    found: Sequence[Run],
    *,
    compares: bool,
    names: Mapping[int, str] | None = None,
    key: str = "curves",
) -> CurvesPanel:
    """Curves of runs whose jobs are loaded: of one, or of several laid over each other, by `names` where
    they should not be called by their own."""
    total = max((run.job.total or 0 for run in found), default=0)
    return CurvesPanel(
        key=key,
        compares=compares,
        data=curves_data(curve_runs(request, found, names), compares=compares, total=total or None),
        lines=[
            line
            for run in found
            for line in last_values(session, run.id, named(run, names) if compares else "")
        ],
        empty="The curves begin with the first step." if found else "No training has begun yet.",
    )


def named(run: Run, names: Mapping[int, str] | None) -> str:
    """What the line of a run is called."""
    return (names or {}).get(run.id, run.name)


def curve_runs(
    request: Request, found: Sequence[Run], names: Mapping[int, str] | None = None
) -> list[CurveRun]:
    """Runs as curves know them."""
    return [
        CurveRun(
            id=run.id,
            name=named(run, names),
            metrics=str(request.app.url_path_for("read_metrics", run_id=run.id)),
            state=str(request.app.url_path_for("read_run", run_id=run.id)),
            active=not JobStatus(run.job.status).is_over,
        )
        for run in found
    ]


def curves_data(runs: Sequence[CurveRun], *, compares: bool, total: int | None) -> Markup:
    """The JSON for the script; `total` is the length of the longest run in steps, if it is known."""
    charts = [asdict(chart) for chart in CHARTS]
    view = {"compares": compares, "total": total, "charts": charts, "runs": [asdict(run) for run in runs]}
    return as_json(view)


def as_json(value: object) -> Markup:
    """JSON that may stand in a `<script>`: nothing in it ends the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    escaped = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup(escaped)  # noqa: S704 -- escaped above


def last_values(session: Session, run_id: int, of: str = "") -> list[LastValue]:
    """Each curve of the run in a line; `of` stands before each label."""
    return lines_of(metrics.read(session, run_id, max_points=SPARK_POINTS), of)


def lines_of(found: Mapping[str, Series], of: str = "") -> list[LastValue]:
    """Each curve in a line, in the order of the charts."""
    return [
        LastValue(
            label=f"{of}: {label_of(name)}" if of else label_of(name),
            value=plain_number(float(found[name].points.values[-1]), 4),
            step=count(int(found[name].points.steps[-1])),
            picture=spark(found[name].points),
        )
        for name in sorted(found, key=place_of)
    ]


def place_of(name: str) -> tuple[int, str]:
    """By what metrics are sorted: their charts' order, then their names."""
    return ORDER.get(name, len(ORDER)), name


def label_of(name: str) -> str:
    """What people call a metric: `held out loss`, `kept chosen`."""
    if name not in TITLES:
        return name.removeprefix("suite/").replace("/", ": ").replace("_", " ")
    chart, metric = TITLES[name]
    return chart.title if len(chart.metrics) == 1 else f"{chart.title}, {metric.label}"


def spark(points: Points) -> Markup:
    """A curve as a small SVG with classes only: the highest value at the top, the lowest at the bottom."""
    steps, values = points.steps.tolist(), points.values.tolist()
    if len(steps) < 2:
        return Markup("")
    wide = SPARK_WIDTH / max(1, steps[-1] - steps[0])
    # Halved first: the distance of two finite numbers may be infinite.
    least = min(values) / 2
    half = max(values) / 2 - least
    shares = [(value / 2 - least) / half if half else 0.5 for value in values]
    path = "M" + "L".join(
        f"{(step - steps[0]) * wide:.1f} {2 + (1 - share) * (SPARK_HEIGHT - 4):.1f}"
        for step, share in zip(steps, shares, strict=True)
    )
    return Markup(  # noqa: S704 -- numbers only
        f'<svg class="spark" viewBox="0 0 {SPARK_WIDTH} {SPARK_HEIGHT}" preserveAspectRatio="none" '
        f'aria-hidden="true"><path vector-effect="non-scaling-stroke" d="{path}"/></svg>'
    )
