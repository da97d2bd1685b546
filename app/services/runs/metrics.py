"""Curves of a run: points that come a few at a time, kept in blocks of 1,024 steps, and read thinned out.

A block is two arrays, so that 100,000 points are a hundred rows. A point of a step that is there already
takes its place: an attempt that goes on from a checkpoint repeats steps and doubles none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import MetricBlock
from engine.curves import MIN_POINTS as MIN_POINTS
from engine.curves import Points as Points
from engine.curves import in_order, thinned

BLOCK_STEPS = 1024
LARGEST_STEP = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Series:
    """A curve as it is read."""

    points: Points
    count: int
    """How many points there are in the stretch that was asked for, before thinning."""
    binned: bool
    """Whether only the least and the greatest of each equal stretch of steps are left."""


def store(session: Session, run_id: int, points: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """Stores (step, value) points of curves by name; the last of several at one step counts.

    Values that are not finite are left out: a curve has a gap there. Raises ValueError for a step that is
    negative or beyond 2^31 - 1.
    """
    new = {
        (name, number): block for name, curve in points.items() for number, block in _blocks(points_of(curve))
    }
    if not new:
        return
    known = _locked(session, run_id, new.keys())
    rows = [
        {
            "run_id": run_id,
            "name": name,
            "block": number,
            **_packed(_merged(known[name, number], block) if (name, number) in known else block),
        }
        for (name, number), block in new.items()
    ]
    statement = insert(MetricBlock)
    replaced = {column: statement.excluded[column] for column in ("steps", "values")}
    keys = [MetricBlock.run_id, MetricBlock.name, MetricBlock.block]
    session.execute(statement.on_conflict_do_update(index_elements=keys, set_=replaced), rows)


def truncate(session: Session, run_id: int, after_step: int) -> None:
    """Removes the points of later steps than `after_step`."""
    last = after_step // BLOCK_STEPS
    of_run = MetricBlock.run_id == run_id
    session.execute(delete(MetricBlock).where(of_run, MetricBlock.block > last))
    query = select(MetricBlock).where(of_run, MetricBlock.block == last).with_for_update()
    for row in session.scalars(query.execution_options(populate_existing=True)):
        steps, values = _unpacked(row.steps, row.values)
        left = int(np.searchsorted(steps, after_step, side="right"))
        if left == 0:
            session.delete(row)
        elif left < len(steps):
            row.steps, row.values = _packed(Points(steps[:left], values[:left])).values()
    session.flush()


def names(session: Session, run_id: int) -> list[str]:
    """Names of the run's curves, in order."""
    query = select(MetricBlock.name).where(MetricBlock.run_id == run_id).distinct()
    return sorted(session.scalars(query))


def read(
    session: Session,
    run_id: int,
    wanted: Collection[str] | None = None,
    *,
    since: int = -1,
    until: int = LARGEST_STEP,
    max_points: int | None = None,
) -> dict[str, Series]:
    """The run's curves by name, each after step `since` and up to `until`; `wanted` None stands for all.

    A curve of more than `max_points` is thinned: its steps are parted into equal stretches, of which the
    least and the greatest value stay, beside both ends of the curve. A name without points has no entry.
    """
    query = (
        select(MetricBlock.name, MetricBlock.steps, MetricBlock.values)
        .where(
            MetricBlock.run_id == run_id,
            MetricBlock.block.between((since + 1) // BLOCK_STEPS, until // BLOCK_STEPS),
        )
        .order_by(MetricBlock.name, MetricBlock.block)
    )
    if wanted is not None:
        query = query.where(MetricBlock.name.in_(wanted))
    found: dict[str, tuple[list[bytes], list[bytes]]] = {}
    for name, steps, values in session.execute(query):
        curve = found.setdefault(name, ([], []))
        curve[0].append(steps)
        curve[1].append(values)
    curves = {
        name: _between(_unpacked(b"".join(steps), b"".join(values)), since, until)
        for name, (steps, values) in found.items()
    }
    return {name: _thinned(points, max_points) for name, points in curves.items() if len(points.steps)}


def latest(session: Session, run_id: int) -> dict[str, float]:
    """The last value of every curve, by name."""
    last = (
        select(MetricBlock.name, func.max(MetricBlock.block).label("block"))
        .where(MetricBlock.run_id == run_id)
        .group_by(MetricBlock.name)
        .subquery()
    )
    value = func.substring(MetricBlock.values, func.length(MetricBlock.values) - 7)
    query = (
        select(MetricBlock.name, value)
        .join(last, (last.c.name == MetricBlock.name) & (last.c.block == MetricBlock.block))
        .where(MetricBlock.run_id == run_id)
        .order_by(MetricBlock.name)
    )
    return {name: float(np.frombuffer(packed, "<f8")[0]) for name, packed in session.execute(query)}


def last_step(session: Session, run_id: int) -> int:
    """The highest step that any curve of the run has reached; 0 while there is no point."""
    last = select(func.max(MetricBlock.block)).where(MetricBlock.run_id == run_id).scalar_subquery()
    step = func.substring(MetricBlock.steps, func.length(MetricBlock.steps) - 3)
    query = select(step).where(MetricBlock.run_id == run_id, MetricBlock.block == last)
    return max((int(np.frombuffer(packed, "<i4")[0]) for packed in session.scalars(query)), default=0)


# ----------------------------------------------------------------------------------------------- blocks


def points_of(curve: Sequence[tuple[int, float]]) -> Points:
    """The finite points of a curve in order of their steps, one a step."""
    steps = np.array([step for step, _ in curve], dtype=np.int64)
    values = np.array([value for _, value in curve], dtype=np.float64)
    if len(steps) and not 0 <= steps.min() <= steps.max() <= LARGEST_STEP:
        raise ValueError(f"A step of a curve lies from 0 to {LARGEST_STEP}.")
    finite = np.isfinite(values)
    return in_order(steps[finite].astype(np.int32), values[finite])


def _blocks(points: Points) -> Iterator[tuple[int, Points]]:
    """The points, cut where a block ends, each with the number of its block."""
    numbers = points.steps // BLOCK_STEPS
    cuts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    for start, end in pairwise(cuts):
        if end > start:
            yield int(numbers[start]), Points(points.steps[start:end], points.values[start:end])


def _locked(
    session: Session, run_id: int, keys: Collection[tuple[str, int]]
) -> dict[tuple[str, int], Points]:
    """The blocks of these names and numbers that are there, which nobody else changes meanwhile."""
    query = (
        select(MetricBlock.name, MetricBlock.block, MetricBlock.steps, MetricBlock.values)
        .where(MetricBlock.run_id == run_id, tuple_(MetricBlock.name, MetricBlock.block).in_(keys))
        .with_for_update()
    )
    return {(name, block): _unpacked(steps, values) for name, block, steps, values in session.execute(query)}


def _merged(known: Points, new: Points) -> Points:
    return in_order(np.concatenate([known.steps, new.steps]), np.concatenate([known.values, new.values]))


def _packed(points: Points) -> dict[str, bytes]:
    return {"steps": points.steps.astype("<i4").tobytes(), "values": points.values.astype("<f8").tobytes()}


def _unpacked(steps: bytes, values: bytes) -> Points:
    return Points(np.frombuffer(steps, "<i4"), np.frombuffer(values, "<f8"))


# ---------------------------------------------------------------------------------------------- reading


def _between(points: Points, since: int, until: int) -> Points:
    start, end = np.searchsorted(points.steps, [since, until], side="right").tolist()
    return Points(points.steps[start:end], points.values[start:end])


def _thinned(points: Points, max_points: int | None) -> Series:
    count = len(points.steps)
    left = points if max_points is None else thinned(points, max_points)
    return Series(left, count, binned=len(left.steps) < count)
