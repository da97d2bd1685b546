"""Figures as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.pages.parts import numbers


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.0, "0"),
        (0.1234, "+0.123"),
        (-12.345, "−12.3"),
        (12345.6, "+12346"),
        (1.5e-7, "+1.50e−7"),
        (float("-inf"), "−∞"),
    ],
)
def test_a_reward_has_its_sign_and_missing_is_not_zero(value, shown):
    assert numbers.signed(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"), [(0.0, "0%"), (0.004, "<1%"), (0.5, "50%"), (0.996, ">99%"), (1.0, "100%")]
)
def test_only_all_is_100_percent(share, shown):
    assert numbers.percent(share) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_a_duration_is_read_at_a_glance(seconds, shown):
    assert numbers.duration(seconds) == shown


def test_an_age_is_rounded_down():
    now = datetime.now(UTC)
    assert numbers.age(now, now) == "just now"
    assert numbers.age(now - timedelta(minutes=5, seconds=50), now) == "5 min ago"
    assert numbers.age(now - timedelta(days=3), now) == "3 days ago"


def test_a_shortened_text_says_that_something_is_left_out():
    assert numbers.shortened("one\ntwo  three", 40) == "one two three"
    assert numbers.shortened("x" * 50, 10) == "x" * 9 + "…"


def test_counts_and_sizes():
    assert numbers.counted(1, "pair") == "1 pair"
    assert numbers.counted(2, "pair") == "2 pairs"
    assert numbers.size(260_000) == "260\N{NARROW NO-BREAK SPACE}K"
