"""The segmenters that look at positions and entropies, and the one door to them all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import TypeAdapter

from engine.errors import RequestError
from engine.rules import AnySegmenter
from engine.segmentation.rows import Rows
from engine.segmentation.segmenter import SEGMENTERS, SegmenterFields
from engine.segmentation.segmenters.entropy import Entropy
from engine.segmentation.segmenters.fixed import Fixed
from engine.segmentation.segmenters.token import Token
from engine.segmentation.segmenters.whole import Whole


def two_rows() -> Rows:
    entropies = np.array([0.1, 1.75, 1.76, math.nan, 9.0, 2.0, 0.0, 3.0])
    return Rows(np.zeros(8), np.array([0, 5, 8]), np.zeros(2), 1.0, entropies=entropies)


def cut(rows: Rows, fields: SegmenterFields) -> np.ndarray:
    return fields.kind.cut(rows, fields).cuts


def starts_of(fields: SegmenterFields) -> list[int]:
    found: list[int] = np.flatnonzero(cut(two_rows(), fields)).tolist()
    return found


def test_whole_cuts_nothing() -> None:
    assert starts_of(Whole()) == [0, 5]


def test_token_cuts_everywhere() -> None:
    assert starts_of(Token()) == list(range(8))


def test_fixed_counts_from_the_start_of_each_response() -> None:
    assert starts_of(Fixed(length=2)) == [0, 2, 4, 5, 7]
    assert starts_of(Fixed(length=100)) == [0, 5]


def test_a_token_of_high_entropy_ends_its_segment() -> None:
    assert starts_of(Entropy(threshold=1.75)) == [0, 3, 5, 6]


def test_entropies_are_needed() -> None:
    rows = Rows(np.zeros(2), np.array([0, 2]), np.zeros(1), 1.0)
    with pytest.raises(RequestError, match="needs `entropies`"):
        cut(rows, Entropy())


@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_rule_of_the_requests_is_served_and_partitions_the_rows(name: str) -> None:
    rows = two_rows()
    offsets = np.array([(t, t + 1) for t in [*range(5), *range(3)]])
    rows = Rows(rows.rewards, rows.starts, rows.baselines, 1.0, ["ab\ncd", "xyz"], offsets, rows.entropies)
    cuts = cut(rows, TypeAdapter(AnySegmenter).validate_python({"name": name}))
    assert len(cuts) == 8
    assert cuts[[0, 5]].all()
