"""`lab`: the built-in world with known errors, its models, and how well they find the errors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.output import ProgressBar, out, print_json, print_table, refusing, settle_libraries


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(lab)


def lab(
    folder: Annotated[Path, typer.Argument(help="Where it is built, or found if it was built before.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON document.")] = False,
) -> None:
    """Build the demo's world and models in a folder, and measure how well they find the planted errors."""
    settle_libraries()
    from engine.jobs import lab as job

    with refusing(), ProgressBar(quiet=as_json) as bar:
        made = job.run({"folder": str(folder.absolute()), "measure": True}, bar.report)
    if as_json:
        print_json(made)
        return
    figures = made["figures"]
    parts = list(figures["auroc"])
    print_table(
        ["finds planted errors, AUROC", *(part.replace("_", " ") for part in parts)],
        [
            ["implicit reward", *(f"{figures['auroc'][part]:.3f}" for part in parts)],
            ["reward model, value", *(f"{figures['reward_model_auroc'][part]:.3f}" for part in parts)],
        ],
        nothing="No figure.",
    )
    out.print(
        f"{made['count']} pairs, {100 * figures['wrong_tokens']:.0f}% of their tokens wrong: {made['folder']}"
    )
