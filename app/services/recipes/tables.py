"""The table of a recipe: a row for the base and for each method and density, with figures side by side."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from app.db.tables import JobStatus, Run
from app.services.evaluations.evaluations import figures_of
from app.services.recipes.recipes import RecipeState, StepState
from app.services.recipes.requests import StepKind
from engine.evaluation.request import Figure

COLLAPSE_POINTS = 0.02
"""A success that lies further below the base counts as collapsed."""
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t for a two-sided 95% interval, with 1 to 9 degrees of freedom."""
METRICS: Sequence[str] = get_args(Figure.model_fields["metric"].annotation)
_BAD = ("failed", "crashed", "cancelled", "refused", "deleted", "blocked")


@dataclass(frozen=True, slots=True)
class FigureColumn:
    """What one column of figures shows."""

    suite: str
    """Name of the task suite; '' for figures on pairs."""
    metric: str
    part: str
    """Category of the tasks or rows, '' for all of them."""


@dataclass(frozen=True, slots=True)
class ResultCell:
    """A figure: of the one seed with the interval of its evaluation, or the mean over seeds with theirs."""

    value: float
    low: float | None
    high: float | None
    change: float | None
    """Against the base, in the figure's own unit; None for the base itself."""


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One method and density, over all seeds; None where something is not known (yet)."""

    method: str | None
    """None for the base."""
    density: str
    """A density, `union` (sample-wise, with the scorer's data as well) or `base`."""
    status: str
    seeds: int
    run_ids: list[int]
    """Trainings, one a seed."""
    evaluation_ids: list[int]
    model_ids: list[int]
    cells: list[ResultCell | None]
    """By the table's columns."""
    held_out_loss: ResultCell | None
    """Of the training's own held-out rows, at its last step."""
    kept_chosen: float | None
    """Share of the chosen responses' tokens that counted, at the last step."""
    kept_rejected: float | None
    steps: int | None
    tokens: float | None
    """Tokens that the training read, mean over seeds."""
    seconds: float | None
    collapsed: bool | None
    """Whether success on a suite fell below the base by more than two points."""


@dataclass(frozen=True, slots=True)
class ResultTable:
    """All rows, the base first."""

    columns: list[FigureColumn]
    rows: list[ResultRow]
    compute: str
    """What is equal between the rows, in a sentence."""


def table(state: RecipeState) -> ResultTable:
    """What is known so far."""
    groups: dict[tuple[str | None, str], list[StepState]] = {}
    for step in state.steps:
        if step.density is not None:
            groups.setdefault((step.method, step.density), []).append(step)
    figures = [figure for run in state.runs.values() for figure in figures_of(run)]
    columns = sorted({_column(figure) for figure in figures}, key=_place)
    base_steps = groups.pop((None, "base"), [])
    base = _row(state, None, "base", base_steps, columns, None) if base_steps else None
    rows = [] if base is None else [base]
    rows += [_row(state, *key, steps, columns, base) for key, steps in groups.items()]
    return ResultTable(columns, rows, _compute(state))


def _runs_of(state: RecipeState, steps: Sequence[StepState], kind: StepKind) -> list[Run]:
    return [state.runs[step.name] for step in steps if step.kind == kind and step.name in state.runs]


def _row(
    state: RecipeState,
    method: str | None,
    density: str,
    steps: Sequence[StepState],
    columns: Sequence[FigureColumn],
    base: ResultRow | None,
) -> ResultRow:
    trainings = _runs_of(state, steps, "training")
    evaluations = _runs_of(state, steps, "evaluation")
    results = [run.result for run in trainings if run.result is not None]
    metrics = [result["metrics"] for result in results]
    cells = _cells(evaluations, columns, base)
    return ResultRow(
        method=method,
        density=density,
        status=_status(steps),
        seeds=sum(step.kind == "training" for step in steps) or 1,
        run_ids=[run.id for run in trainings],
        evaluation_ids=[run.id for run in evaluations],
        model_ids=[int(result["model_id"]) for result in results],
        cells=cells,
        held_out_loss=_over_seeds(_known(metrics, "held_out/loss"), None),
        kept_chosen=_mean(_known(metrics, "train/kept_chosen")),
        kept_rejected=_mean(_known(metrics, "train/kept_rejected")),
        steps=max((int(result["steps"]) for result in results), default=None),
        tokens=_mean([float(result["tokens"]) for result in results]),
        seconds=_mean([float(result["seconds"]) for result in results]),
        collapsed=_collapsed(columns, cells) if base is not None else None,
    )


def _column(figure: Figure) -> FigureColumn:
    return FigureColumn(figure.suite or "", figure.metric, figure.part)


def _place(column: FigureColumn) -> tuple[int, str, str]:
    """Success comes first, then what the engine's list of metrics has next."""
    return METRICS.index(column.metric), column.suite, column.part


def _cells(
    evaluations: Sequence[Run], columns: Sequence[FigureColumn], base: ResultRow | None
) -> list[ResultCell | None]:
    by_column: dict[FigureColumn, list[Figure]] = {}
    for run in evaluations:
        for figure in figures_of(run):
            by_column.setdefault(_column(figure), []).append(figure)
    cells = []
    for place, column in enumerate(columns):
        figures = [figure for figure in by_column.get(column, []) if figure.value is not None]
        of_base = None if base is None else base.cells[place]
        cell = _over_seeds([figure.value for figure in figures], of_base)
        if cell is not None and len(figures) == 1:
            cell = ResultCell(cell.value, figures[0].low, figures[0].high, cell.change)
        cells.append(cell)
    return cells


def _over_seeds(values: Iterable[float | None], base: ResultCell | None) -> ResultCell | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    mean = statistics.fmean(known)
    change = None if base is None else mean - base.value
    if len(known) == 1:
        return ResultCell(mean, None, None, change)
    reach = T_95[len(known) - 2] * statistics.stdev(known) / math.sqrt(len(known))
    return ResultCell(mean, mean - reach, mean + reach, change)


def _collapsed(columns: Sequence[FigureColumn], cells: Sequence[ResultCell | None]) -> bool | None:
    """Whether success on all of a suite fell; None while no success is known."""
    changes = [
        cell.change
        for column, cell in zip(columns, cells, strict=True)
        if column.metric == "success" and not column.part and cell is not None and cell.change is not None
    ]
    return any(change < -COLLAPSE_POINTS for change in changes) if changes else None


def _known(metrics: Sequence[dict[str, float]], name: str) -> list[float]:
    return [one[name] for one in metrics if one.get(name) is not None]


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _status(steps: Sequence[StepState]) -> str:
    """The worst of what went wrong, else the furthest that something is."""
    statuses = [step.status for step in steps]
    for status in (*_BAD, JobStatus.running, JobStatus.queued, "waiting"):
        if status in statuses:
            return str(status)
    return "succeeded"


def _compute(state: RecipeState) -> str:
    request = state.recipe.request
    optimisation = request["optimisation"]
    sentence = (
        f"Every training makes {optimisation['steps']:,} updates of {optimisation['batch_size']:,} from the "
        "same base policy."
    )
    if any(step.density == "union" for step in state.steps):
        sentence += " The rows of sample + scorer data see those as well, in as many updates."
    if len(request["seeds"]) > 1:
        sentence += (
            f" Figures are means over {len(request['seeds'])} seeds, with Student's 95% interval of the mean."
        )
    return sentence
