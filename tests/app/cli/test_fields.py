"""`--fields` lists what a request may hold, and does nothing else."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from app.cli import app


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["train"], "optimisation.epochs  Epochs; default: 1, where steps are blank too; above 0"),
        (["train"], "rows  Rows; required"),
        (["train"], "method.clip  Clip range; default: 0.2; above 0"),
        (["trainings", "submit"], "dataset_id  Data set; required; at least 1"),
        (["trainings", "preview"], "supervision.density  Supervision granularity; default: sample; "),
        (["recipes", "submit"], "union  Also sample + scorer data; default: true"),
    ],
)
def test_the_fields_of_a_request_are_listed(command: list[str], line: str) -> None:
    answer = CliRunner().invoke(app, [*command, "--fields"])
    assert answer.exit_code == 0, answer.output
    assert line in answer.output
