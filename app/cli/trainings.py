"""`trainings`: asking a server for a training by a file, and what one would do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import BaseModel

from app.cli.fields import fields_option
from app.cli.output import out, print_json, print_table, refuse
from app.cli.runs import waited
from app.cli.server import Json, add_group, server_at_hand

Config = Annotated[Path, typer.Argument(help="YAML or JSON: the body of POST /api/v1/trainings.")]


def _body_class() -> type[BaseModel]:
    from app.services.trainings.requests import TrainingBody

    return TrainingBody


Fields = Annotated[bool, fields_option(_body_class)]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    add_group(
        app,
        "trainings",
        "Trainings on the server; `rewardscope train` needs none.",
        {"submit": submit_training, "preview": preview_training},
    )


def submit_training(
    config: Config,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until it is over.")] = False,
    as_json: Json = False,
    list_fields: Fields = False,
) -> None:
    """Train on the server."""
    body = _body(config)
    with server_at_hand() as server:
        run = server.submit_training(**body)
        if wait:
            run = waited(server, run, quiet=as_json)
    if as_json:
        print_json(run.raw)
    else:
        out.print(f"Run {run.id}, {run.name}: {run.status}.", markup=False)


def preview_training(config: Config, as_json: Json = False, list_fields: Fields = False) -> None:
    """Show what a training would do: rows, steps, memory, what its mask keeps, warnings."""
    body = _body(config)
    with server_at_hand() as server:
        found = server.preview_training(**body)
    if as_json:
        print_json(found)
        return
    kept = found["kept"] or {}
    print_table(
        ["steps", "rows", "held out", "kept chosen", "kept rejected", "keep nothing", "memory", "disk"],
        [
            [
                found["steps"],
                found["rows"],
                found["held_out"],
                _share(kept.get("chosen")),
                _share(kept.get("rejected")),
                found["nothing_kept"] if found["kept"] else None,
                f"{found['memory_needed'] / 2**30:.1f} GiB",
                f"{found['disk_needed'] / 2**30:.1f} GiB",
            ]
        ],
        nothing="",
    )
    for warning in found["warnings"]:
        out.print(f"Warning: {warning}", markup=False)


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.0%}"


def _body(path: Path) -> dict[str, Any]:
    """The request that the file holds."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"`{path}` cannot be read ({error}).")
    except yaml.YAMLError as error:
        refuse(f"`{path}` is no YAML: {error}")
    missing = {"dataset_id", "model", "method"} - (found.keys() if isinstance(found, dict) else set())
    if missing:
        refuse(f"`{path}` must name {', '.join(f'`{name}`' for name in sorted(missing))}.")
    body: dict[str, Any] = found
    return body
