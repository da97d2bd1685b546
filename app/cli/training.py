"""`train`: a model trained from a file into a folder, without a server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from app.cli.fields import fields_option
from app.cli.formats import ChosenByOption, SplitOption
from app.cli.output import (
    ProgressBar,
    out,
    print_json,
    print_table,
    refuse,
    refusing,
    settle_libraries,
    tidy_end,
)
from engine.errors import RowsRefused
from engine.training.methods import METHODS


def _config() -> type[BaseModel]:
    from engine.jobs.train_file import TrainingConfig

    return TrainingConfig


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command(epilog=f"Methods: {', '.join(METHODS)}.")(train)


def train(
    config: Annotated[
        Path, typer.Argument(help="YAML: method, model, rows, and what else differs from usual.")
    ],
    folder: Annotated[
        Path, typer.Option("--out", help="Where curves, checkpoints and the model go; resumes what is there.")
    ],
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="A field on top of the file, as in --set optimisation.steps=100; repeat."),
    ] = None,
    split: SplitOption = None,
    chosen_by: ChosenByOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
    list_fields: Annotated[bool, fields_option(_config)] = False,
) -> None:
    """Train a model from a file into a folder. May be started by torchrun or by `accelerate launch`."""
    if not config.exists():
        refuse(f"`{config}` does not exist; name a YAML file. docs/training.md has one to begin with.")
    settle_libraries()
    speaks = os.environ.get("RANK", "0") == "0"
    with refusing():
        from engine.jobs.train_file import read_config, train_file

        told = {"split": split, "chosen_by": chosen_by}
        stated = [f"{name}={value}" for name, value in told.items() if value is not None]
        asked = read_config(config, [*(change or []), *stated])
        with tidy_end(), ProgressBar(quiet=as_json or not speaks) as bar:
            try:
                result = train_file(asked, folder, bar.report)
            except RowsRefused as error:
                refuse(str(error), [str(row) for row in error.rows])
    if not speaks:
        return
    if as_json:
        print_json(result)
    else:
        _print_figures(result)


def _print_figures(result: dict[str, Any]) -> None:
    out.print(f"{result['steps']:,} steps in {result['seconds']:.1f} s -> {result['model']}")
    print_table(
        ["last", "value"],
        [
            [name, f"{value:.4g}"]
            for name, value in sorted(result["metrics"].items())
            if not name.startswith("system/")
        ],
        nothing="No figure.",
    )
