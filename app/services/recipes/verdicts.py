"""Whether masking helped, as far as a recipe can tell: each masked density against sample-wise training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from app.services.recipes.tables import ResultCell, ResultRow, ResultTable

Answer = Literal["helped", "hurt", "unclear"]
"""`unclear`: the intervals of the best masked density and of its rival overlap, or are unknown."""
UNMASKED = ("base", "sample", "union")


@dataclass(frozen=True, slots=True)
class MaskedFigure:
    """The success of one masked density."""

    density: str
    success: ResultCell


@dataclass(frozen=True, slots=True)
class MaskingVerdict:
    """What masking came to with one method, on one task suite."""

    method: str
    suite: str
    answer: Answer
    masked: list[MaskedFigure]
    """The best first; the answer is about that one."""
    sample: ResultCell
    union: ResultCell | None
    """Sample-wise with the scorer's data as well: what those data are worth without a mask."""
    against_union: Answer | None
    """The same question with `union` in the place of `sample`: whether the mask helps, or the data."""


def verdicts(table: ResultTable) -> list[MaskingVerdict]:
    """A verdict for each method and suite whose sample-wise and masked trainings have been evaluated."""
    by_method: dict[str, dict[str, ResultRow]] = {}
    for row in table.rows:
        if row.method is not None:
            by_method.setdefault(row.method, {})[row.density] = row
    found = []
    for place, column in enumerate(table.columns):
        if column.metric == "success" and not column.part:
            for method, rows in by_method.items():
                verdict = _verdict(method, column.suite, rows, place)
                found += [] if verdict is None else [verdict]
    return found


def _verdict(method: str, suite: str, rows: Mapping[str, ResultRow], place: int) -> MaskingVerdict | None:
    cells = {density: cell for density, row in rows.items() if (cell := row.cells[place]) is not None}
    masked = [MaskedFigure(density, cell) for density, cell in cells.items() if density not in UNMASKED]
    sample = cells.get("sample")
    if sample is None or not masked:
        return None
    masked.sort(key=lambda one: -one.success.value)
    union, best = cells.get("union"), masked[0].success
    against_union = None if union is None else _answer(best, union)
    return MaskingVerdict(method, suite, _answer(best, sample), masked, sample, union, against_union)


def _answer(best: ResultCell, rival: ResultCell) -> Answer:
    if best.low is None or best.high is None or rival.low is None or rival.high is None:
        return "unclear"
    return "helped" if best.low > rival.high else "hurt" if best.high < rival.low else "unclear"
