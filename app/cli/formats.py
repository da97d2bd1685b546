"""`formats`: what files can be read, and what their rows may be."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.output import out, print_json, print_table
from app.cli.server import Json
from engine.formats.compression import COMPRESSIONS
from engine.formats.registry import FILE_TYPES, ROW_FORMATS

ChosenByOption = Annotated[
    str | None,
    typer.Option(
        "--chosen-by",
        help="Which of single, scored responses are preferred: COLUMN (the best against the worst to a "
        "prompt), or COLUMN>X.",
    ),
]

SplitOption = Annotated[
    str | None, typer.Option("--split", help="Which split of a folder with several is read, such as train.")
]


def register(app: typer.Typer) -> None:
    """Adds the command of this module."""
    app.command("formats")(list_formats)


def list_formats(as_json: Json = False) -> None:
    """List the files that can be read, and what the columns of their rows may mean."""
    files = [
        {"name": one.name, "endings": one.endings, "description": one.description}
        for one in FILE_TYPES.values()
    ]
    rows = [{"name": one.name, "of": one.of, "description": one.description} for one in ROW_FORMATS.values()]
    if as_json:
        print_json({"files": files, "rows": rows, "compressions": [one.ending for one in COMPRESSIONS]})
        return
    print_table(
        ["file", "endings", "what it holds"],
        [[one.label, " ".join(one.endings), one.description] for one in FILE_TYPES.values()],
        nothing="",
    )
    out.print(f"Each also compressed: {', '.join(one.ending for one in COMPRESSIONS)}.\n")
    print_table(
        ["rows", "become", "told by"],
        [[one["name"], one["of"], one["description"]] for one in rows],
        nothing="",
    )
