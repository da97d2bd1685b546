"""Curves of a run: points that come in any portions are there once, and a long curve is read in no time."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.tables import MetricBlock
from app.services.runs import jobs, metrics
from app.services.runs.metrics import Series

LOSS = "train/loss"


@pytest.fixture
def run_id(session: Session) -> int:
    return jobs.submit(session, kind="training", name="a training", request={}).id


def points_of(series: Series) -> list[tuple[int, float]]:
    return list(zip(series.points.steps.tolist(), series.points.values.tolist(), strict=True))


def curve(session: Session, run_id: int, name: str = LOSS, since: int = -1) -> list[tuple[int, float]]:
    found = metrics.read(session, run_id, [name], since=since)
    return points_of(found[name]) if name in found else []


def test_points_come_back_as_they_came(session: Session, run_id: int) -> None:
    metrics.store(session, run_id, {LOSS: [(1, 0.7), (2, 0.6)], "train/kl": [(2, 0.01)]})
    metrics.store(session, run_id, {LOSS: [(3, 0.1 + 0.2)]})
    assert curve(session, run_id) == [(1, 0.7), (2, 0.6), (3, 0.1 + 0.2)]
    assert metrics.names(session, run_id) == ["train/kl", LOSS]
    assert metrics.latest(session, run_id) == {LOSS: 0.1 + 0.2, "train/kl": 0.01}
    assert metrics.last_step(session, run_id) == 3


def test_a_run_without_points_has_no_curves(session: Session, run_id: int) -> None:
    metrics.store(session, run_id, {LOSS: []})
    assert metrics.names(session, run_id) == []
    assert metrics.read(session, run_id) == {}
    assert metrics.latest(session, run_id) == {}
    assert metrics.last_step(session, run_id) == 0


def test_a_step_that_comes_again_takes_the_place_of_the_first(session: Session, run_id: int) -> None:
    metrics.store(session, run_id, {LOSS: [(1, 1.0), (2, 2.0), (3, 3.0)]})
    metrics.store(session, run_id, {LOSS: [(2, 20.0), (3, 30.0), (4, 40.0), (4, 41.0)]})
    assert curve(session, run_id) == [(1, 1.0), (2, 20.0), (3, 30.0), (4, 41.0)]


def test_what_is_not_finite_is_not_stored(session: Session, run_id: int) -> None:
    metrics.store(session, run_id, {LOSS: [(1, 1.0), (2, math.nan), (3, math.inf), (4, 4.0)]})
    assert curve(session, run_id) == [(1, 1.0), (4, 4.0)]


@pytest.mark.parametrize("step", [-1, 2**31])
def test_a_step_that_no_block_can_hold_is_refused(session: Session, run_id: int, step: int) -> None:
    with pytest.raises(ValueError, match="step of a curve"):
        metrics.store(session, run_id, {LOSS: [(step, 1.0)]})


def test_a_new_point_rewrites_only_its_block(session: Session, run_id: int) -> None:
    metrics.store(session, run_id, {LOSS: [(step, 1.0) for step in range(1, 3000)]})
    query = select(MetricBlock.block, MetricBlock.__table__.c.steps, func.length(MetricBlock.values))
    where = query.where(MetricBlock.run_id == run_id).order_by(MetricBlock.block)
    before = session.execute(where).all()
    metrics.store(session, run_id, {LOSS: [(3000, 2.0)]})
    after = session.execute(where).all()
    assert [row.block for row in after] == [0, 1, 2]
    assert after[:2] == before[:2]
    assert after[2][2] == before[2][2] + 8


@pytest.mark.parametrize("after_step", [0, 1, 1023, 1024, 1500, 2047, 2048, 9999])
def test_what_came_after_a_step_is_removed(session: Session, run_id: int, after_step: int) -> None:
    metrics.store(session, run_id, {LOSS: [(step, float(step)) for step in range(1, 2500)]})
    metrics.store(session, run_id, {"held_out/loss": [(2400, 1.0)]})
    metrics.truncate(session, run_id, after_step)
    assert [step for step, _ in curve(session, run_id)] == list(range(1, min(after_step, 2499) + 1))
    assert len(curve(session, run_id, "held_out/loss")) == (after_step >= 2400)
    metrics.store(session, run_id, {LOSS: [(after_step + 1, 0.0)]})
    assert curve(session, run_id)[-1][0] == max(after_step + 1, min(after_step, 2499))


@pytest.mark.parametrize("since", [-1, 0, 1022, 1023, 1024, 2999, 3000])
def test_only_later_points_are_read(session: Session, run_id: int, since: int) -> None:
    metrics.store(session, run_id, {LOSS: [(step, float(step)) for step in range(3001)]})
    assert [step for step, _ in curve(session, run_id, since=since)] == list(range(since + 1, 3001))


@pytest.mark.parametrize("until", [0, 1, 1023, 1024, 2999, 3000, 9999])
def test_no_later_points_are_read_than_asked_for(session: Session, run_id: int, until: int) -> None:
    metrics.store(session, run_id, {LOSS: [(step, 0.5) for step in range(1, 3001)]})
    found = metrics.read(session, run_id, [LOSS], since=0, until=until)
    steps = found[LOSS].points.steps.tolist() if found else []
    assert steps == list(range(1, min(until, 3000) + 1))


def test_a_thinned_curve_keeps_its_ends_and_its_peaks(session: Session, run_id: int) -> None:
    values = np.sin(np.arange(1, 20_001) / 500)
    values[7_777] = 50.0
    values[12_345] = -50.0
    metrics.store(session, run_id, {LOSS: list(enumerate(values.tolist(), start=1))})
    series = metrics.read(session, run_id, [LOSS], max_points=100)[LOSS]
    found = points_of(series)
    assert (series.count, series.binned) == (20_000, True)
    assert len(found) <= 100
    assert found == sorted(found)
    assert {(1, values[0]), (20_000, values[-1]), (7_778, 50.0), (12_346, -50.0)} <= set(found)


@pytest.mark.parametrize("seed", range(20))
def test_each_stretch_of_a_thinned_curve_keeps_its_extremes(session: Session, run_id: int, seed: int) -> None:
    """With gaps, and steps up to the largest."""
    dice = np.random.default_rng(seed)
    steps = np.unique(dice.integers(0, dice.choice([500, metrics.LARGEST_STEP]), 400, endpoint=True))
    values = dice.normal(size=len(steps)).round(1)
    metrics.store(session, run_id, {LOSS: list(zip(steps.tolist(), values.tolist(), strict=True))})
    found = dict(points_of(metrics.read(session, run_id, [LOSS], max_points=22)[LOSS]))
    assert len(found) <= 22
    edges = np.linspace(steps[0], steps[-1] + 1, 11)
    for start, end in itertools.pairwise(edges):
        inside = values[(steps >= start) & (steps < end)]
        kept = [value for step, value in found.items() if start <= step < end]
        assert not len(inside) or {inside.min(), inside.max()} <= set(kept)


@pytest.mark.parametrize("max_points", [-5, 0, 1, 6, 7, 8, 9, 20, 99])
def test_no_wish_is_too_small(session: Session, run_id: int, max_points: int) -> None:
    metrics.store(session, run_id, {LOSS: [(step, float(step % 7)) for step in range(0, 300, 3)]})
    found = points_of(metrics.read(session, run_id, [LOSS], max_points=max_points)[LOSS])
    assert 4 <= len(found) <= max(max_points, metrics.MIN_POINTS)
    assert (found[0][0], found[-1][0]) == (0, 297)


def test_a_short_curve_is_not_thinned(session: Session, run_id: int) -> None:
    metrics.store(session, run_id, {LOSS: [(step, 1.0) for step in range(100)]})
    series = metrics.read(session, run_id, max_points=100)[LOSS]
    assert (series.count, series.binned, len(series.points.steps)) == (100, False, 100)


@pytest.mark.parametrize("seed", range(20))
def test_blocks_hold_what_a_plain_dictionary_would(session: Session, run_id: int, seed: int) -> None:
    dice = np.random.default_rng(seed)
    plain: dict[int, float] = {}
    for _ in range(5):
        size = int(dice.integers(0, 50))
        steps, values = dice.integers(0, 4000, size).tolist(), dice.normal(size=size).tolist()
        metrics.store(session, run_id, {LOSS: list(zip(steps, values, strict=True))})
        plain |= dict(zip(steps, values, strict=True))
    assert curve(session, run_id) == sorted(plain.items())
    cut = int(dice.integers(0, 4000))
    metrics.truncate(session, run_id, cut)
    assert curve(session, run_id) == sorted((step, value) for step, value in plain.items() if step <= cut)


def test_a_curve_of_a_hundred_thousand_points_is_thinned_and_says_so(session: Session, run_id: int) -> None:
    values = np.random.default_rng(0).normal(size=100_000)
    metrics.store(session, run_id, {LOSS: list(enumerate(values.tolist(), start=1))})
    series = metrics.read(session, run_id, [LOSS], max_points=2000)[LOSS]
    assert series.count == 100_000
    assert series.binned
    assert len(series.points.steps) <= 2000
    assert series.points.values.min() == values.min()
    assert series.points.values.max() == values.max()
