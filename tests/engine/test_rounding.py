"""Numbers of tokens as they go to the browser: short, and the nearest to what is stored."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as some

from engine.rounding import rounded_list

NUMBERS = some.lists(some.floats(width=32), max_size=40)


@given(NUMBERS, some.integers(2, 6))
def test_every_number_is_the_nearest_with_so_many_digits(numbers, digits):
    found = rounded_list(np.array(numbers, dtype=np.float64), digits)
    for number, shown in zip(numbers, found, strict=True):
        if not np.isfinite(number):
            assert shown is None
        else:
            assert abs(shown - number) <= abs(number) * 0.5001 * 10.0 ** (1 - digits)
            assert len(json.dumps(abs(shown)).replace(".", "").split("e")[0].strip("0")) <= digits


def test_whole_numbers_stay_whole():
    assert rounded_list(np.array([0, 7, 123_456_789], dtype=np.int32)) == [0, 7, 123_456_789]
