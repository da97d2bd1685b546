"""What lies between cuts, and the merging of what is too short, against a plain search."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.segmentation.rows import Rows
from engine.segmentation.segmenters.hysteresis import Hysteresis, turns
from engine.segmentation.segments import Aggregate, pivot_ranks, segments
from engine.types import Segment

NAN = math.nan


def one_row(curve: list[float], baseline: float = 0.0, scale: float = 1.0) -> Rows:
    return Rows(np.array(curve), np.array([0, len(curve)]), np.array([baseline]), scale)


def merged(curve: list[float], min_len: int) -> tuple[list[int], list[int]]:
    """Signal and segment starts, cut at delta 0."""
    found = turns(one_row(curve), Hysteresis(delta=0, min_len=min_len))
    return found.signal.tolist(), np.flatnonzero(found.cuts).tolist()


def searched(curve: list[float], min_len: int) -> tuple[list[int], list[int]]:
    """The same by looking for the shortest again and again."""
    found = turns(one_row(curve), Hysteresis(delta=0))
    bounds = [*np.flatnonzero(found.cuts).tolist(), len(curve)]
    parts = [[found.signal[a], a, b] for a, b in pairwise(bounds)]

    def mean(part: list[int]) -> float:
        here = [s for s in curve[part[1] : part[2]] if not math.isnan(s)]
        return sum(here) / len(here) if here else NAN

    while len(parts) > 1:
        k = min(range(len(parts)), key=lambda i: parts[i][2] - parts[i][1])
        if parts[k][2] - parts[k][1] >= min_len:
            break
        to_left = abs(mean(parts[k - 1]) - mean(parts[k])) if k > 0 else math.inf
        to_right = abs(mean(parts[k + 1]) - mean(parts[k])) if k + 1 < len(parts) else math.inf
        into = k + 1 if to_right < to_left or k == 0 else k - 1
        parts[k][0] = parts[into][0]
        joined = [parts[0]]
        for part in parts[1:]:
            if part[0] == joined[-1][0]:
                joined[-1][2] = part[2]
            else:
                joined.append(part)
        parts = joined
    signal = [int(part[0]) for part in parts for _ in range(part[2] - part[1])]
    return signal, [part[1] for part in parts]


@pytest.mark.parametrize(
    ("aggregate", "rewards"),
    [
        ("mean", [2.0, -2.0]),
        ("sum", [4.0, -4.0]),
        ("last", [3.0, 1.0]),
        ("min", [1.0, -5.0]),
        ("max_abs", [3.0, -5.0]),
    ],
)
def test_aggregates_leave_missing_rewards_out(aggregate: Aggregate, rewards: list[float]) -> None:
    rows = one_row([1.0, NAN, 3.0, -5.0, 1.0, NAN])
    cuts = np.array([True, False, False, True, False, False])
    found = segments(rows, cuts, aggregate)
    assert found.reward.tolist() == rewards
    assert (found.start.tolist(), found.end.tolist(), found.rows.tolist()) == ([0, 3], [3, 6], [0, 2])


def test_a_segment_without_rewards_has_none() -> None:
    for aggregate in ("mean", "sum", "last", "min", "max_abs"):
        found = segments(one_row([NAN, NAN]), np.array([True, False]), aggregate)  # type: ignore[arg-type]
        assert math.isnan(found.reward[0])


def test_rewards_are_aggregated_scaled() -> None:
    found = segments(one_row([3.0, 5.0], baseline=1.0, scale=2.0), np.array([True, False]), "sum")
    assert found.reward.tolist() == [3.0]


def test_empty_rows_have_no_segments() -> None:
    rows = Rows(np.array([1.0, 2.0]), np.array([0, 0, 2, 2]), np.zeros(3), 1.0)
    found = segments(rows, np.array([True, True]), "mean")
    assert found.rows.tolist() == [0, 0, 2, 2]


def test_a_short_segment_joins_both_of_its_neighbours() -> None:
    assert merged([1, 1, -1, 1, 1, 1], 2) == ([1] * 6, [0])


def test_a_response_shorter_than_min_len_becomes_one_segment_of_the_longer_sign() -> None:
    assert merged([1, 1, -1, -1, -1], 50) == ([-1] * 5, [0])
    assert merged([2], 50) == ([1], [0])


@settings(deadline=None)
@given(
    st.lists(st.integers(-4, 4).map(float) | st.just(NAN), min_size=1, max_size=40),
    st.integers(1, 12),
)
def test_merging_is_the_search_for_the_shortest(curve: list[float], min_len: int) -> None:
    assert merged(curve, min_len) == searched(curve, min_len)


@settings(deadline=None)
@given(st.lists(st.floats(-4, 4) | st.just(NAN), min_size=1, max_size=60), st.integers(1, 12))
def test_no_segment_stays_short_unless_it_is_alone(curve: list[float], min_len: int) -> None:
    signal, starts = merged(curve, min_len)
    lengths = np.diff([*starts, len(curve)])
    assert len(starts) == 1 or lengths.min() >= min_len
    assert starts == [0, *(t for t in range(1, len(curve)) if signal[t] != signal[t - 1])]


def test_a_very_long_response_of_alternating_signs_is_merged_at_once() -> None:
    curve = np.tile([1.0, -1.0], 100_000)
    rows = Rows(curve, np.array([0, len(curve)]), np.zeros(1), 1.0)
    found = turns(rows, Hysteresis(min_len=1000))
    assert np.diff([*np.flatnonzero(found.cuts), len(curve)]).min() >= 1000


def test_rank_1_is_where_the_segment_reward_turns_furthest():
    segments = [Segment(0, 2, 1, 0.1, True), Segment(2, 3, -1, -0.1, True), Segment(3, 5, 1, 5.0, True)]
    assert pivot_ranks(segments) == {3: 1, 2: 2}


def test_a_turn_to_a_segment_without_reward_ranks_last() -> None:
    segments = [Segment(0, 2, 0, NAN, True), Segment(2, 3, -1, -0.1, True), Segment(3, 5, 1, 0.1, True)]
    assert pivot_ranks(segments) == {3: 1, 2: 2}
    assert pivot_ranks(segments[:1]) == pivot_ranks([]) == {}
