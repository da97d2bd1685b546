"""`suites`, `evaluations`, `recipes`: what models are evaluated on, and comparisons from one submission."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import BaseModel

from app.cli.fields import fields_option
from app.cli.output import Exit, ProgressBar, err, out, print_json, print_table, refuse
from app.cli.runs import waited
from app.cli.server import Json, Limit, add_group, server_at_hand
from engine.formats.listing import file_sentence
from engine.training.methods import METHODS
from rewardscope.client import RewardScope
from rewardscope.errors import RecipeNotSucceeded

Suites = Annotated[list[int] | None, typer.Option("--suite", help="Number of a task suite; repeatable.")]
COMPARED = ", ".join(name for name, method in METHODS.items() if method.in_recipes)
Wait = Annotated[bool, typer.Option("--wait", help="Stay until it is over.")]


def _recipe_body() -> type[BaseModel]:
    from app.services.recipes.requests import RecipeBody

    return RecipeBody


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    add_group(
        app,
        "suites",
        "Task suites: prompts with programmatic checks.",
        {"import": import_suite, "list": list_suites},
    )
    add_group(
        app,
        "evaluations",
        "Figures of models.",
        {"submit": submit_evaluation, "list": list_figures},
    )
    add_group(
        app,
        "recipes",
        "Scorer, scores, trainings and evaluations from one submission.",
        {"submit": submit_recipe, "list": list_recipes, "show": show_recipe},
    )


def import_suite(
    file: Annotated[Path, typer.Argument(help=f"{file_sentence()}.")],
    name: Annotated[str | None, typer.Option(help="Name of the suite; default: the file's.")] = None,
    as_json: Json = False,
) -> None:
    """Bring a file of tasks to the server: our own rows, or those of GSM8K, MMLU or HumanEval."""
    if not file.is_file():
        refuse(f"`{file}` is no file.")
    with server_at_hand() as server:
        found = server.import_suite(file, name=name)
    if as_json:
        print_json(found)
    else:
        out.print(f"Task suite {found['id']}, {found['name']}: {found['task_count']:,} tasks.", markup=False)


def list_suites(limit: Limit = 50, as_json: Json = False) -> None:
    """List task suites, newest first."""
    with server_at_hand() as server:
        rows = list(islice(server.suites(), limit))
    if as_json:
        print_json(rows)
        return
    print_table(
        ["id", "name", "tasks", "categories", "runs code", "created"],
        [
            [
                row["id"],
                row["name"],
                row["task_count"],
                ", ".join(filter(None, row["categories"])),
                row["runs_code"],
                row["created_at"],
            ]
            for row in rows
        ],
        nothing="No task suite yet; `rewardscope suites import FILE` brings one.",
    )


# ------------------------------------------------------------------------------------------------ evaluations


def submit_evaluation(
    model: Annotated[str, typer.Argument(help="Name, number or path of the model.")],
    reference: Annotated[str | None, typer.Option(help="What it is compared with.")] = None,
    dataset: Annotated[int | None, typer.Option(help="Number of a data set of pairs.")] = None,
    suite: Suites = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Answers to each task.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Evaluate a model on the server: on pairs, on task suites, or on both."""
    numbers = {} if samples is None else {"samples": samples}
    with server_at_hand() as server:
        run = server.submit_evaluation(
            model, reference=reference, dataset_id=dataset, suite_ids=suite or [], name=name, **numbers
        )
        if wait:
            run = waited(server, run, quiet=as_json)
    if as_json:
        print_json(run.raw)
        return
    out.print(f"Run {run.id}, {run.name}: {run.status}.", markup=False)
    if run.raw["result"] is not None:
        _print_figures([figure | {"model": model} for figure in run.raw["result"]["figures"]])


def list_figures(
    limit: Limit = 100,
    model: Annotated[list[int] | None, typer.Option(help="Number of a model; repeatable.")] = None,
    run: Annotated[list[int] | None, typer.Option(help="Number of an evaluation; repeatable.")] = None,
    as_json: Json = False,
) -> None:
    """List figures of evaluations, those of the newest first."""
    with server_at_hand() as server:
        rows = list(islice(server.figures(model_ids=model or [], run_ids=run or []), limit))
    if as_json:
        print_json(rows)
    else:
        _print_figures(rows)


def _print_figures(rows: list[dict[str, Any]]) -> None:
    print_table(
        ["model", "suite", "figure", "part", "value", "interval", "of"],
        [
            [
                row["model"],
                row["suite"],
                row["metric"],
                row["part"] or "all",
                _number(row["value"]),
                None if row["low"] is None else f"{_number(row['low'])} to {_number(row['high'])}",
                row["count"],
            ]
            for row in rows
        ],
        nothing="No figure yet; `rewardscope evaluations submit MODEL` asks for some.",
    )


# ---------------------------------------------------------------------------------------------------- recipes


def submit_recipe(
    dataset: Annotated[int, typer.Argument(help="Number of the data set.")],
    model: Annotated[str, typer.Argument(help="Name, number or path of the base policy.")],
    method: Annotated[list[str] | None, typer.Option(help=f"Of {COMPARED}; repeatable.")] = None,
    density: Annotated[list[str] | None, typer.Option(help="sample, step, token, segment.")] = None,
    suite: Suites = None,
    scorer: Annotated[str | None, typer.Option(help="A scorer that is there already.")] = None,
    scorer_dataset: Annotated[int | None, typer.Option(help="What the scorer learns from.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Updates of every training.")] = None,
    seed: Annotated[list[int] | None, typer.Option(min=0, help="Seed; repeat for several.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML with further fields of the request.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the recipe.")] = None,
    wait: Wait = False,
    as_json: Json = False,
    list_fields: Annotated[bool, fields_option(_recipe_body)] = False,
) -> None:
    """Compare supervision granularities at equal steps: train a scorer, score, train each, evaluate all."""
    fields = {} if config is None else _read(config)
    given = {
        "methods": method,
        "densities": density,
        "suite_ids": suite,
        "scorer": scorer,
        "scorer_dataset_id": scorer_dataset,
        "seeds": seed,
        "name": name,
    }
    fields |= {field: value for field, value in given.items() if value is not None}
    if steps is not None:
        fields["optimisation"] = {**fields.get("optimisation", {}), "steps": steps}
    with server_at_hand() as server:
        recipe = server.submit_recipe(dataset, model, **fields)
        for warning in [] if as_json else recipe["warnings"]:
            err.print(warning, markup=False)
        if wait:
            recipe = _waited(server, recipe, quiet=as_json)
    if as_json:
        print_json(recipe)
    else:
        _print_recipe(recipe)


def list_recipes(limit: Limit = 20, as_json: Json = False) -> None:
    """List recipes, newest first."""
    with server_at_hand() as server:
        rows = list(islice(server.recipes(), limit))
    if as_json:
        print_json(rows)
        return
    print_table(
        ["id", "name", "status", "steps", "created"],
        [
            [row["id"], row["name"], row["status"], f"{row['done']} of {row['total']}", row["created_at"]]
            for row in rows
        ],
        nothing="No recipe yet; `rewardscope recipes submit DATASET MODEL` asks for one.",
    )


def show_recipe(
    recipe_id: Annotated[int, typer.Argument(help="Number of the recipe.")], as_json: Json = False
) -> None:
    """Show a recipe: how far it is, and its table."""
    with server_at_hand() as server:
        recipe = server.recipe(recipe_id)
    if as_json:
        print_json(recipe)
    else:
        _print_recipe(recipe)


def _print_recipe(recipe: dict[str, Any]) -> None:
    out.print(
        f"Recipe {recipe['id']}, {recipe['name']}: {recipe['status']}, {recipe['done']} of {recipe['total']} "
        "steps.",
        markup=False,
    )
    for step in recipe["steps"]:
        if step["reason"] is not None:
            out.print(f"{step['name']}: {step['reason']}", markup=False)
    columns = recipe["table"]["columns"]
    print_table(
        ["method", "density", *(_heading(column) for column in columns), "held-out loss", "status"],
        [
            [
                row["method"],
                row["density"],
                *(None if cell is None else _number(cell["value"]) for cell in row["cells"]),
                None if row["held_out_loss"] is None else _number(row["held_out_loss"]["value"]),
                "collapsed" if row["collapsed"] else row["status"],
            ]
            for row in recipe["table"]["rows"]
        ],
        nothing="Nothing to compare.",
    )
    out.print(recipe["table"]["compute"], markup=False)


def _heading(column: dict[str, str]) -> str:
    return " ".join(filter(None, [column["metric"].replace("_", " "), column["part"]]))


def _waited(server: RewardScope, recipe: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    from engine.types import Progress

    with ProgressBar(quiet=quiet) as bar:

        def show(current: dict[str, Any]) -> None:
            bar.update(Progress("recipe", current["done"], current["total"], "steps"))

        try:
            return server.wait_for_recipe(recipe["id"], on_progress=show)
        except RecipeNotSucceeded as error:
            err.print(str(error), markup=False)
            raise typer.Exit(Exit.RUN_FAILED) from error


def _read(config: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        refuse(f"`{config}` cannot be read as YAML: {error}")
    if not isinstance(found, dict):
        refuse(f"`{config}` must hold fields of a recipe, such as `methods: [dpo, rjs]`.")
    return found


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
