"""The figures of one evaluation, or of several side by side, in tables by what they were measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.pages.parts.figures import NOTHING, FigureCell, cell_of, figure_cell, hint_of, label_of, measured_on
from engine.evaluation.request import Figure


@dataclass(frozen=True, slots=True)
class FigureLine:
    """One figure."""

    label: str
    hint: str
    part: str
    cell: FigureCell
    reference: str
    count: int


@dataclass(frozen=True, slots=True)
class FigureTable:
    """The figures of one suite, or of the pairs."""

    title: str
    has_reference: bool
    lines: list[FigureLine]


@dataclass(frozen=True, slots=True)
class SideLine:
    """A figure of several models."""

    label: str
    hint: str
    of: str
    cells: list[FigureCell]


def figure_table(figures: Sequence[Figure]) -> list[FigureTable]:
    """A table for each suite, and one for what was measured on pairs."""
    groups: dict[str, list[Figure]] = {}
    for figure in figures:
        groups.setdefault(figure.suite or "", []).append(figure)
    return [
        FigureTable(
            title=suite or ("On its own answers" if {one.metric for one in group} == {"kl"} else "On pairs"),
            has_reference=any(one.reference is not None for one in group),
            lines=[_line(one) for one in group],
        )
        for suite, group in groups.items()
    ]


def side_by_side(columns: Sequence[Mapping[tuple[str, str, str], Figure]]) -> list[SideLine]:
    """A line for each figure that any of the columns has, with its change against the first that has it."""
    keys = dict.fromkeys(key for column in columns for key in column)
    lines = []
    for suite, metric, part in keys:
        found = [column.get((suite, metric, part)) for column in columns]
        first = next((one for one in found if one is not None and one.value is not None), None)
        cells = [_against(one, first) if one is not None else NOTHING for one in found]
        of = measured_on(metric, suite, part)
        lines.append(SideLine(label_of(metric), hint_of(metric), of, cells))
    return lines


def by_key(figures: Sequence[Figure]) -> dict[tuple[str, str, str], Figure]:
    """Figures by suite, metric and part; the first of each counts."""
    found: dict[tuple[str, str, str], Figure] = {}
    for figure in figures:
        found.setdefault((figure.suite or "", figure.metric, figure.part), figure)
    return found


def _line(figure: Figure) -> FigureLine:
    return FigureLine(
        label=label_of(figure.metric),
        hint=hint_of(figure.metric),
        part=figure.part or ("its own answers" if figure.metric == "kl" else ""),
        cell=figure_cell(figure),
        reference=cell_of(figure.metric, figure.reference, None, None, None).value,
        count=figure.count,
    )


def _against(figure: Figure, first: Figure | None) -> FigureCell:
    known = first is not None and first is not figure and figure.value is not None
    change = figure.value - first.value if known else None  # type: ignore[operator, union-attr]
    return cell_of(figure.metric, figure.value, figure.low, figure.high, change)
