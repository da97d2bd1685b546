"""`import`, `datasets` and `models`: what the server is given to work on."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from app.cli.formats import ChosenByOption, SplitOption
from app.cli.inspection import show_rows
from app.cli.output import out, print_json, print_table, refuse
from app.cli.server import Json, Limit, add_group, server_at_hand
from engine.formats.listing import file_sentence
from engine.formats.pairs import about_identical


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command("import")(import_dataset)
    add_group(app, "datasets", "Data sets on the server.", {"list": list_datasets})
    add_group(app, "models", "Models that the server knows.", {"add": add_model, "list": list_models})


def import_dataset(
    file: Annotated[Path, typer.Argument(help=f"{file_sentence()}, or a folder that the server sees.")],
    name: Annotated[str | None, typer.Option(help="Name of the data set; default: the file's.")] = None,
    on_error: Annotated[
        str, typer.Option(help="fail: nothing is stored; skip: bad rows are left out.")
    ] = "fail",
    chosen_by: ChosenByOption = None,
    split: SplitOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be read, and store nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring a file of preference pairs to the server."""
    if on_error not in ("fail", "skip"):
        refuse("--on-error is `fail` or `skip`.")
    if not file.exists():
        refuse(f"`{file}` does not exist; name a file or a folder of preference pairs.")
    if split is not None and file.is_file():
        refuse(f"`{file}` is one file, which has no splits; name a folder, or leave --split out.")
    if dry_run:
        show_rows(file, chosen_by=chosen_by, split=split, as_json=as_json)
        return
    policy = cast(Literal["fail", "skip"], on_error)
    with server_at_hand() as server:
        found = (
            server.import_folder(
                str(file.absolute()), name=name, on_error=policy, chosen_by=chosen_by, split=split
            )
            if file.is_dir()
            else server.upload_dataset(file, name=name, on_error=policy, chosen_by=chosen_by)
        )
    if as_json:
        print_json(found)
    else:
        skipped = f", {found['skipped_count']:,} rows skipped" if found["skipped_count"] else ""
        out.print(
            f"Data set {found['id']}, {found['name']}: {found['pair_count']:,} pairs{skipped}.", markup=False
        )
        for sentence in found["origin"].get("left_out", []):
            out.print(sentence, markup=False)
        same = found["origin"].get("identical_sides", 0)
        if same:
            out.print(about_identical(same), markup=False)


def list_datasets(limit: Limit = 50, as_json: Json = False) -> None:
    """List data sets, newest first."""
    with server_at_hand() as server:
        rows = list(islice(server.datasets(), limit))
    if as_json:
        print_json(rows)
        return
    print_table(
        ["id", "name", "pairs", "responses", "labelled spans", "created"],
        [
            [
                row["id"],
                row["name"],
                row["pair_count"],
                row["response_count"],
                row["annotated"],
                row["created_at"],
            ]
            for row in rows
        ],
        nothing="No data set yet; `rewardscope import FILE` brings one.",
    )


def add_model(
    path: Annotated[str, typer.Argument(help="Folder that the server sees, or a hub name.")],
    name: Annotated[str | None, typer.Option(help="Name in requests; default: the folder's.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a hub name.")] = None,
    as_json: Json = False,
) -> None:
    """Make a model known to the server."""
    local = Path(path)
    with server_at_hand() as server:
        found = server.register_model(
            str(local.absolute()) if local.is_dir() else path, name=name, revision=revision
        )
    if as_json:
        print_json(found)
    else:
        out.print(f"Model {found['id']}, {found['name']}: {found['architecture']}.", markup=False)


def list_models(limit: Limit = 50, as_json: Json = False) -> None:
    """List models, newest first."""
    with server_at_hand() as server:
        rows = list(islice(server.models(), limit))
    if as_json:
        print_json(rows)
        return
    print_table(
        ["id", "name", "kind", "architecture", "parameters", "context", "path"],
        [
            [row[field] for field in ("id", "name", "kind", "architecture", "parameters", "context", "path")]
            for row in rows
        ],
        nothing="No model yet; `rewardscope models add PATH` makes one known.",
    )
