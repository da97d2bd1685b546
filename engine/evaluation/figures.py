"""How figures are made of intervals, and which parts have figures of their own."""

from __future__ import annotations

import math
from collections.abc import Iterable

from engine.evaluation.intervals import Interval
from engine.evaluation.request import Figure

MOST_PARTS = 20
"""With more different parts there are figures of all together alone."""
DECIMALS = 9
"""What lies beyond is rounding, which may differ with the number of threads."""


def parts_of(names: Iterable[str]) -> list[str]:
    """The parts that have figures of their own, in alphabetical order; none where all is one part."""
    different = sorted(set(names) - {""})
    return different if 1 < len(different) <= MOST_PARTS else []


def figure(
    metric: str,
    part: str,
    found: Interval,
    count: int,
    reference: float | None = None,
    *,
    suite: str | None = None,
    lowest: float = -math.inf,
    highest: float = math.inf,
) -> Figure:
    """A figure whose interval does not leave what its metric can be."""

    def within(value: float | None) -> float | None:
        if value is None or math.isnan(value):
            return None
        return round(min(max(value, lowest), highest), DECIMALS)

    return Figure.model_validate(
        {
            "metric": metric,
            "part": part,
            "suite": suite,
            "value": within(found.value),
            "low": within(found.low),
            "high": within(found.high),
            "count": count,
            "reference": within(reference),
        }
    )
