"""Finding wrong tokens and their boundaries, against numbers worked out by hand and brute force."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.evaluation.localisation import (
    LocalisationTally,
    auroc,
    auroc_with_interval,
    boundary_f1,
    judged_labels,
    label_boundaries,
    stretch_of,
    token_labels,
)
from engine.types import Span

NAN = math.nan


def brute_force(scores: list[float], labels: list[float]) -> float:
    wins = [
        1.0 if one > zero else 0.5 if one == zero else 0.0
        for one, is_one in zip(scores, labels, strict=True)
        if is_one == 1
        for zero, is_other in zip(scores, labels, strict=True)
        if is_other == 0
    ]
    return sum(wins) / len(wins)


@pytest.mark.parametrize(
    ("scores", "labels", "value"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 1.0),
        ([4, 3, 2, 1], [0, 0, 1, 1], 0.0),
        ([1, 1, 1, 1], [0, 0, 1, 1], 0.5),
        ([1, 3, 2, 4], [0, 0, 1, 1], 0.75),
        ([1, 2, 2, 3], [0, 0, 1, 1], 0.875),
        ([1, NAN, 2, 9], [0, 0, 1, NAN], 1.0),
        ([1, 2], [0, 0], None),
        ([1, 2], [1, NAN], None),
        ([], [], None),
    ],
)
def test_auroc_is_the_share_of_pairs_in_order(scores: Any, labels: Any, value: float | None) -> None:
    assert auroc(scores, labels) == value


@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 1)), min_size=2, max_size=40))
def test_auroc_counts_ties_as_brute_force_does(entries: list[tuple[int, int]]) -> None:
    scores = [float(score) for score, _ in entries]
    labels = [float(label) for _, label in entries]
    if len(set(labels)) == 2:
        assert auroc(scores, labels) == pytest.approx(brute_force(scores, labels), abs=1e-12)
        assert auroc([-score for score in scores], labels) == pytest.approx(
            1 - brute_force(scores, labels), abs=1e-12
        )


def test_the_interval_is_delongs() -> None:
    """Ones 2, 2, 4 beat the shares .5, .5, 1 of the zeros 1, 2, 3, which lose to 1, 2/3, 1/3 of the ones."""
    found = auroc_with_interval([2, 2, 4, 1, 2, 3], [1, 1, 1, 0, 0, 0])
    ones, zeros = np.array([0.5, 0.5, 1]), np.array([1, 2 / 3, 1 / 3])
    reach = 1.959963985 * math.sqrt(ones.var(ddof=1) / 3 + zeros.var(ddof=1) / 3)
    assert found.value == pytest.approx(2 / 3)
    assert found.low == pytest.approx(2 / 3 - reach)
    assert found.high == 1.0
    assert (found.wrong, found.right) == (3, 3)


def test_one_wrong_token_has_no_interval() -> None:
    found = auroc_with_interval([2, 1, 1], [1, 0, 0])
    assert (found.value, found.low, found.high) == (1.0, None, None)


def test_the_interval_covers_what_it_should() -> None:
    generator = np.random.default_rng(0)
    truth = 0.760_249_938_9  # normal scores one standard deviation apart: Phi(1 / sqrt 2)
    covered = 0
    for _ in range(300):
        scores = np.concatenate([generator.normal(1, 1, 40), generator.normal(0, 1, 120)])
        found = auroc_with_interval(scores, np.repeat([1, 0], [40, 120]))
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    assert 0.90 <= covered / 300 <= 0.99


def test_scores_and_labels_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="2 scores for 1 labels"):
        auroc([1, 2], [1])


OFFSETS = [[0, 3], [3, 7], [7, 8], [8, 8]]


@pytest.mark.parametrize(
    ("spans", "labels"),
    [
        ([], [0, 0, 0, NAN]),
        (None, [NAN, NAN, NAN, NAN]),
        ([Span(4, 6, "bug")], [0, 1, 0, NAN]),
        ([Span(2, 4, "bug")], [1, 1, 0, NAN]),
        ([Span(0, 3, "fix", 1.0)], [0, 0, 0, NAN]),
        ([Span(7, 8, "bug_adjacent", None)], [0, 0, NAN, NAN]),
        ([Span(0, 3, "bug"), Span(0, 7, "bug_adjacent", None), Span(0, 3, "fix", 1.0)], [1, NAN, 0, NAN]),
        ([Span(0, 8, "bug")], [1, 1, 1, NAN]),
    ],
)
def test_a_token_is_wrong_where_it_overlaps_blame(spans: list[Span] | None, labels: list[float]) -> None:
    np.testing.assert_array_equal(token_labels(spans, OFFSETS), np.array(labels, dtype=np.float32))


def test_no_tokens_have_no_labels() -> None:
    assert token_labels([], []).shape == (0,)


@pytest.mark.parametrize(
    ("labels", "boundaries"),
    [
        ([0, 0, 1, 1, 0], [2, 4]),
        ([0, NAN, 1, NAN, NAN, 0], [2, 5]),
        ([1, 1], []),
        ([NAN], []),
        ([], []),
    ],
)
def test_true_boundaries_are_where_known_labels_change(labels: list[float], boundaries: list[int]) -> None:
    assert label_boundaries(np.array(labels, dtype=np.float32)) == boundaries


@pytest.mark.parametrize(
    ("pivots", "boundaries", "tolerance", "scores"),
    [
        ([2, 5], [2, 5], 0, (1, 1, 1)),
        ([2, 6], [2, 5], 0, (0.5, 0.5, 0.5)),
        ([2, 6], [2, 5], 1, (1, 1, 1)),
        ([4, 5, 6], [5], 1, (1 / 3, 1, 0.5)),
        ([5], [4, 6], 1, (1, 0.5, 2 / 3)),
        ([3, 4], [4, 5], 1, (1, 1, 1)),
        ([], [3], 0, (None, 0, 0)),
        ([3], [], 0, (0, None, 0)),
        ([], [], 0, (None, None, None)),
    ],
)
def test_a_boundary_is_hit_once(pivots: Any, boundaries: Any, tolerance: int, scores: Any) -> None:
    assert boundary_f1(pivots, boundaries, tolerance) == pytest.approx(scores)


def run(seed: int, responses: int = 40) -> list[tuple[np.ndarray, np.ndarray]]:
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(responses):
        tokens = int(generator.integers(1, 60))
        labels = generator.choice([0, 1, NAN], tokens, p=[0.7, 0.2, 0.1]).astype(np.float32)
        rewards = (generator.normal(0, 1, tokens) - np.nan_to_num(labels)).astype(np.float32)
        rewards[generator.random(tokens) < 0.05] = NAN
        made.append((rewards, labels))
    return made


def tallied(responses: list[tuple[np.ndarray, np.ndarray]], exact_tokens: int = 10**6) -> LocalisationTally:
    tally = LocalisationTally(exact_tokens)
    for rewards, labels in responses:
        tally.add(rewards, labels)
    return tally


def test_a_tally_finds_what_the_pooled_tokens_give() -> None:
    responses = run(1)
    rewards, labels = (np.concatenate(part) for part in zip(*responses, strict=True))
    found = tallied(responses).result()
    assert found == auroc_with_interval(-rewards, labels)
    assert found.value is not None
    assert found.value > 0.7


def test_neither_order_nor_partition_changes_a_tally() -> None:
    responses = run(2)
    for exact_tokens in (10**6, 300):
        parts = [tallied(responses[start::3], exact_tokens) for start in range(3)]
        for part in parts[1:]:
            parts[0].merge(part)
        whole = tallied(responses, exact_tokens)
        assert parts[0].result() == whole.result() == tallied(responses[::-1], exact_tokens).result()


def test_beyond_its_memory_a_tally_bounds_its_error() -> None:
    responses = run(3, 400)
    exact, binned = tallied(responses).result(), tallied(responses, 100).result()
    assert exact.value is not None
    assert binned.value is not None
    assert (exact.error, exact.wrong, exact.right) == (0, binned.wrong, binned.right)
    assert abs(exact.value - binned.value) <= binned.error < 1e-3


def test_bins_order_signs_and_zeros() -> None:
    tally = LocalisationTally(0)
    rewards = np.array([-np.inf, -1.0, -1e-30, -0.0, 0.0, 1e-30, 1.0], dtype=np.float32)
    tally.add(rewards, np.array([1, 1, 1, 1, 0, 0, 0], dtype=np.float32))
    found = tally.result()
    assert found.value == pytest.approx(1 - 0.5 / 12)  # only -0 and 0 are equal


def test_an_empty_tally_knows_nothing() -> None:
    assert LocalisationTally().result().value is None
    with pytest.raises(ValueError, match="2 rewards for 1 labels"):
        LocalisationTally().add(np.zeros(2), np.zeros(1))


def test_of_a_response_that_was_judged_in_part_only_the_judged_tokens_are_known() -> None:
    offsets = [(0, 5), (5, 8), (8, 12), (12, 20), (20, 20)]
    spans = [Span(6, 8, "right", 1.0), Span(8, 11, "wrong", -1.0), Span(12, 20, "unsure", None)]
    assert judged_labels(spans, offsets).tolist()[1:3] == [0, 1]
    assert np.isnan(judged_labels(spans, offsets)[[0, 3, 4]]).all()
    assert np.isnan(judged_labels([], offsets)).all()


def test_a_stretch_is_the_tokens_that_share_a_character_with_a_span() -> None:
    offsets = np.array([(0, 2), (2, 5), (5, 6), (6, 6)])
    assert stretch_of(Span(1, 3, "any"), offsets) == (0, 2)
    assert stretch_of(Span(5, 6, "any"), offsets) == (2, 3)
    assert stretch_of(Span(6, 9, "any"), offsets) is None
