"""The command line: `rewardscope up | demo | serve | worker | score | segment | import | export | ...`.

Each module holds the commands of one idea; this one joins them. Nothing heavy is imported before a command
needs it, so that `rewardscope --help` answers at once.
"""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Annotated

import typer

from app.cli import (
    database,
    datasets_and_models,
    formats,
    inspection,
    laboratory,
    recipes,
    runs,
    scoring,
    server,
    serving,
    training,
    trainings,
)

app = typer.Typer(
    name="rewardscope",
    help="See where in a response the reward comes from, and train with that knowledge.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(importlib.metadata.version("rewardscope"))
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for module in (
    serving,
    scoring,
    training,
    laboratory,
    datasets_and_models,
    formats,
    inspection,
    runs,
    trainings,
    recipes,
    server,
    database,
):
    module.register(app)


def main() -> None:
    """Runs the command line; `rewardscope.launcher` calls it."""
    try:
        app()
    except BrokenPipeError:  # somebody piped us into `head`
        sys.exit(141)
