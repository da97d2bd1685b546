"""Which tokens differ: exact against the textbook's table, tidy for readers, bounded for very long ones."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine import alignment
from engine.alignment import _common, differences

TOKENS = st.lists(st.integers(0, 4), max_size=24)


def told(left: str, right: str) -> tuple[str, str]:
    """The words of each side that differ."""
    words = {word: number for number, word in enumerate(dict.fromkeys((left + " " + right).split()))}
    sides = [text.split() for text in (left, right)]
    found = differences(*(np.array([words[word] for word in side], dtype=np.int32) for side in sides))
    assert found is not None
    return tuple(
        " ".join(word for word, differs in zip(side, track, strict=True) if differs)
        for side, track in zip(sides, found, strict=True)
    )


def longest(left, right):
    """The length of the longest common subsequence, by the recursion that defines it."""

    @cache
    def of(i, j):
        if not i or not j:
            return 0
        if left[i - 1] == right[j - 1]:
            return of(i - 1, j - 1) + 1
        return max(of(i - 1, j), of(i, j - 1))

    return of(len(left), len(right))


@given(TOKENS, TOKENS)
def test_the_alignment_is_a_longest_common_subsequence(left, right):
    found = _common(left, right)
    assert all(left[i] == right[j] for i, j in found)
    assert found == sorted(found)
    assert all(i < k and j < m for (i, j), (k, m) in pairwise(found))
    assert len(found) == longest(left, right)


@given(TOKENS, TOKENS)
def test_what_is_left_of_both_sides_is_the_same(left, right):
    found = differences(np.array(left, dtype=np.int32), np.array(right, dtype=np.int32))
    assert found is not None
    assert [t for t, differs in zip(left, found.left, strict=True) if not differs] == [
        t for t, differs in zip(right, found.right, strict=True) if not differs
    ]


def test_one_other_word_is_the_only_difference():
    assert told("the capital is Paris of course", "the capital is Rome of course") == ("Paris", "Rome")


def test_an_added_word_leaves_the_rest_alone():
    assert told("it is so", "it is really so") == ("", "really")


def test_equal_responses_do_not_differ_and_empty_ones_differ_wholly():
    assert told("a b c", "a b c") == ("", "")
    assert told("", "a b") == ("", "a b")


def test_a_lone_common_word_does_not_tear_a_rewritten_sentence_apart():
    assert told("w x , y z", "a b , c d") == ("w x , y z", "a b , c d")


def test_responses_that_are_too_long_are_not_aligned(monkeypatch):
    monkeypatch.setattr(alignment, "MAX_CELLS", 8)
    left, right = np.arange(3, dtype=np.int32), np.arange(10, 13, dtype=np.int32)
    assert differences(left, right) is None
    assert differences(left, left) is not None, "what both begin and end with is found without a table"
