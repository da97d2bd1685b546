"""Whether masking helped, as a recipe's table tells it."""

from __future__ import annotations

import pytest

from app.services.recipes.tables import FigureColumn, ResultCell, ResultRow, ResultTable
from app.services.recipes.verdicts import verdicts

SUCCESS = FigureColumn("questions", "success", "")


def cell(value: float, reach: float | None = 0.05) -> ResultCell:
    if reach is None:
        return ResultCell(value, None, None, None)
    return ResultCell(value, value - reach, value + reach, None)


def row(method: str | None, density: str, *cells: ResultCell | None) -> ResultRow:
    return ResultRow(
        method=method,
        density=density,
        status="succeeded",
        seeds=1,
        run_ids=[],
        evaluation_ids=[],
        model_ids=[],
        cells=list(cells),
        held_out_loss=None,
        kept_chosen=None,
        kept_rejected=None,
        steps=None,
        tokens=None,
        seconds=None,
        collapsed=None,
    )


def table(*rows: ResultRow, columns: tuple[FigureColumn, ...] = (SUCCESS,)) -> ResultTable:
    return ResultTable(list(columns), [row(None, "base", cell(0.5)), *rows], "")


@pytest.mark.parametrize(
    ("masked", "answer"), [(0.75, "helped"), (0.45, "hurt"), (0.65, "unclear"), (0.699, "unclear")]
)
def test_an_answer_is_given_only_where_intervals_are_apart(masked, answer):
    found = verdicts(table(row("dpo", "sample", cell(0.6)), row("dpo", "segment", cell(masked))))
    assert [(one.method, one.suite, one.answer) for one in found] == [("dpo", "questions", answer)]


def test_the_best_masked_density_answers_and_the_others_follow():
    (found,) = verdicts(
        table(
            row("rjs", "sample", cell(0.5)),
            row("rjs", "step", cell(0.52)),
            row("rjs", "token", cell(0.8)),
            row("rjs", "segment", cell(0.7)),
            row("rjs", "union", cell(0.9)),
        )
    )
    assert [one.density for one in found.masked] == ["token", "segment", "step"]
    assert (found.answer, found.sample.value) == ("helped", 0.5)
    assert found.union is not None
    assert (found.union.value, found.against_union) == (0.9, "unclear")


@pytest.mark.parametrize(("union", "answer"), [(0.6, "helped"), (0.95, "hurt"), (0.82, "unclear")])
def test_whether_it_is_the_mask_or_the_data_is_asked_too(union, answer):
    rows = row("rjs", "sample", cell(0.5)), row("rjs", "token", cell(0.8)), row("rjs", "union", cell(union))
    (found,) = verdicts(table(*rows))
    assert (found.answer, found.against_union) == ("helped", answer)


def test_without_intervals_nothing_is_clear():
    (found,) = verdicts(table(row("dpo", "sample", cell(0.1, None)), row("dpo", "token", cell(0.9))))
    assert found.answer == "unclear"


def test_methods_and_suites_answer_for_themselves_and_only_once_they_are_evaluated():
    other = FigureColumn("sums", "success", "")
    part = FigureColumn("questions", "success", "adversarial")
    found = verdicts(
        table(
            row("dpo", "sample", cell(0.5), cell(0.5), cell(0.1)),
            row("dpo", "token", cell(0.9), None, cell(0.9)),
            row("rjs", "sample", None, cell(0.5), None),
            row("rjs", "segment", cell(0.9), cell(0.2), None),
            row("sft", "sample", cell(0.5), cell(0.5), cell(0.5)),
            columns=(SUCCESS, other, part),
        )
    )
    assert [(one.method, one.suite, one.answer) for one in found] == [
        ("dpo", "questions", "helped"),
        ("rjs", "sums", "hurt"),
    ]
