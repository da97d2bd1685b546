"""What a training leaves while it runs: curves and checkpoints."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Query

from app.api.parts.common import Id, View, door
from app.dependencies import SessionDep
from app.services.runs import metrics, runs
from app.services.runs.metrics import LARGEST_STEP, MIN_POINTS, Series
from app.services.trainings import checkpoints


class SeriesView(View):
    """A curve: its points, ascending by step."""

    steps: list[int]
    values: list[float]
    points: int
    """How many points there are in the stretch that was asked for."""
    binned: bool
    """Whether these are fewer: the least and the greatest of each equal stretch of steps."""

    @classmethod
    def of(cls, series: Series) -> SeriesView:
        """The view of a curve."""
        return cls(
            steps=series.points.steps.tolist(),
            values=series.points.values.tolist(),
            points=series.count,
            binned=series.binned,
        )


class CurvesView(View):
    """Curves of a run by name."""

    series: dict[str, SeriesView]
    last_step: int
    """The highest step that any curve has reached: ask for what is new with it, less 1, as `since`, because
    other curves may reach the same step later."""


class CheckpointView(View):
    """Weights of a training that are on disk, with all that is needed to go on from them."""

    step: int
    path: str
    bytes: int
    metrics: dict[str, float]
    """Held-out figures at this step."""
    is_best: bool
    created_at: datetime


router = door("runs")


@router.get("/{run_id}/metrics")
def read_metrics(
    run_id: Id,
    session: SessionDep,
    names: Annotated[
        str | None, Query(max_length=4000, description="Names with commas between; all by default.")
    ] = None,
    since: Annotated[int, Query(ge=-1, le=LARGEST_STEP, description="Only points of later steps.")] = -1,
    until: Annotated[int, Query(ge=0, le=LARGEST_STEP, description="Only points up to this step.")] = (
        LARGEST_STEP
    ),
    max_points: Annotated[
        int, Query(ge=MIN_POINTS, le=200_000, description="A curve of more points is thinned to these.")
    ] = 2000,
) -> CurvesView:
    """Curves of a run: loss, margin, kept fractions, held-out figures and so on, by update."""
    runs.get_run(session, run_id)
    wanted = None if names is None else [name.strip() for name in names.split(",") if name.strip()]
    # First, so that points which are stored meanwhile are asked for again instead of never.
    last_step = metrics.last_step(session, run_id)
    found = metrics.read(session, run_id, wanted, since=since, until=until, max_points=max_points)
    return CurvesView(
        series={name: SeriesView.of(series) for name, series in found.items()}, last_step=last_step
    )


@router.get("/{run_id}/checkpoints")
def list_checkpoints(run_id: Id, session: SessionDep) -> list[CheckpointView]:
    """Checkpoints of a training that are on disk, oldest first."""
    runs.get_run(session, run_id)
    found = checkpoints.list_checkpoints(session, run_id)
    return [CheckpointView.model_validate(checkpoint) for checkpoint in found]
