"""The tracks in words: what is offered, and what the legend's ends say."""

from __future__ import annotations

import pytest

from app.pages.parts.numbers import MINUS
from app.pages.parts.tracks import Ends, choices, ends, ramp
from engine.colouring import Colouring


def test_a_track_that_is_missing_says_what_it_would_need():
    entropy = next(choice for choice in choices({"reward"}, "reward") if choice.name == "entropy")
    assert not entropy.is_there
    assert entropy.hint == "The run did not store the policy's entropies."
    assert [choice.key for choice in choices({"reward"}, "reward")] == [1, 2, 3, 4, 5, 6, 7]


def test_the_ramp_of_numbers_without_a_sign_begins_at_0():
    assert list(ramp(Colouring(1.0, "sequential"), 10)) == list(range(11))
    assert list(ramp(Colouring(1.0), 10)) == list(range(-10, 11))


@pytest.mark.parametrize(
    ("track", "scale", "low", "high"),
    [
        ("reward", "diverging", f"{MINUS}2.00", "+2.00"),
        ("logprob", "sequential", "0", f"{MINUS}2.00"),
        ("entropy", "sequential", "0", "2.00"),
        ("rank", "logarithmic", "0", "2"),
    ],
)
def test_the_ends_of_the_legend_are_the_clip(track, scale, low, high):
    assert ends(Colouring(2.0, scale), track) == Ends(low, high)
