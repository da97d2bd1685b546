"""Recipes: the list, and one with its plan, the curves of its trainings and the table that compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from markupsafe import Markup
from sqlalchemy.orm import Session

from app.db.tables import Run
from app.dependencies import SessionDep, SettingsDep
from app.pages.parts.figures import NOTHING, FigureCell, cell_of, hint_of, label_of, measured_on, place_of
from app.pages.parts.forms import filled
from app.pages.parts.masking import VerdictLine, title_of, verdict_lines
from app.pages.parts.numbers import plain_number
from app.pages.parts.rendering import PageContext, render, see_other, url_of
from app.pages.parts.run_facts import facts
from app.pages.parts.run_rows import percent_done
from app.pages.parts.training_curves import CurvesPanel, as_json, curve_runs, curves_panel
from app.services.recipes import recipes
from app.services.recipes import tables as recipe_tables
from app.services.recipes.recipes import RecipeState, StepState
from app.services.recipes.requests import RecipeBody
from app.services.recipes.tables import FigureColumn, ResultCell, ResultRow, ResultTable
from app.services.recipes.verdicts import verdicts
from app.services.recipes.words import row_label, step_label
from app.services.runs.views import find_dataset, find_suite

BROKEN = ("failed", "crashed", "cancelled", "refused", "deleted", "blocked")
STAGES = (
    ("Scorer", "learns which tokens are wrong"),
    ("Scores", "a reward for every token"),
    ("Trainings", "one for each method and granularity"),
    ("Evaluations", "of base and trained models"),
)

router = APIRouter()


@dataclass(frozen=True, slots=True)
class RecipeLine:
    """A line of the list."""

    id: int
    name: str
    address: str
    status: str
    is_active: bool
    done: int
    steps: int
    share: int
    dataset_name: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipesPage(PageContext):
    """The list."""

    recipes: list[RecipeLine]
    next_url: str | None
    first_url: str | None


@dataclass(frozen=True, slots=True)
class PlanStep:
    """A step of the plan."""

    name: str
    address: str | None
    status: str
    share: int | None
    """Percent of its phase that is done; None unless it runs."""
    reason: str | None
    needs: str


@dataclass(frozen=True, slots=True)
class Stage:
    """Steps of one kind, which come one after another's kind."""

    title: str
    hint: str
    done: int
    steps: list[PlanStep]


@dataclass(frozen=True, slots=True)
class FigureHead:
    """A column of figures."""

    label: str
    hint: str
    of: str
    """The suite and the part, or what else it is measured on."""


@dataclass(frozen=True, slots=True)
class CompareRow:
    """A density of a method."""

    density: str
    address: str | None
    """Of its run, where there is one alone."""
    status: str
    is_done: bool
    seeds: int
    cells: list[FigureCell]
    parts: list[FigureCell]
    """The same by category, for the second table."""
    held_out_loss: str
    kept: tuple[float | None, float | None]
    tokens: int | None
    seconds: float | None
    verdict: str
    """`collapsed` in words, or ''."""


@dataclass(frozen=True, slots=True)
class CompareGroup:
    """The rows of one method; the base stands in a group of its own."""

    method: str
    rows: list[CompareRow]


@dataclass(frozen=True, slots=True)
class CompareTable:
    """Densities at equal steps."""

    heads: list[FigureHead]
    part_heads: list[FigureHead]
    groups: list[CompareGroup]
    compute: str
    base_is_missing: bool
    """Whether nothing is compared with the base, as no evaluation was asked for."""
    verdicts: list[VerdictLine]
    """Whether masking helped, as far as that can be told."""


@dataclass(frozen=True, slots=True)
class RecipeStatus:
    """What changes while the recipe is active."""

    refresh_url: str
    status: str
    is_active: bool
    done: int
    total: int
    share: int
    reasons: list[str]
    stages: list[Stage]
    table: CompareTable
    curve_runs: Markup
    """The trainings so far, for curves that are drawn already."""
    cancel_url: str | None
    retry_url: str | None
    clone_url: str
    delete_url: str | None


@dataclass(frozen=True, slots=True)
class RecipeFragment:
    """What a refresh draws anew."""

    status: RecipeStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipePage(PageContext):
    """The whole page."""

    id: int
    name: str
    created_at: datetime
    dataset_name: str | None
    dataset_url: str | None
    warnings: list[str]
    status: RecipeStatus
    curves: CurvesPanel
    request_facts: list[tuple[str, str]]


@router.get("/recipes", name="pages:recipes")
def show_recipes(request: Request, session: SessionDep) -> Response:
    """All recipes, newest first."""
    cursor = filled(request.query_params).get("cursor")
    found = recipes.list_recipes(session, cursor=cursor)
    page = RecipesPage(
        title="Recipes",
        section="recipes",
        recipes=[recipe_line(request, session, state) for state in found.items],
        next_url=url_of(request, "recipes", {"cursor": found.next_cursor}) if found.next_cursor else None,
        first_url=url_of(request, "recipes") if cursor else None,
    )
    return render(request, "recipes/index.html", page)


@router.get("/recipes/{recipe_id:int}", name="pages:recipe")
def show_recipe(request: Request, session: SessionDep, recipe_id: int) -> Response:
    """One recipe."""
    state = recipes.get_recipe(session, recipe_id)
    asked = state.recipe.request
    dataset = find_dataset(session, asked["dataset_id"])
    page = RecipePage(
        title=f"Recipe {recipe_id}: {state.recipe.name}",
        section="recipes",
        id=recipe_id,
        name=state.recipe.name,
        created_at=state.recipe.created_at,
        dataset_name=dataset.name if dataset else None,
        dataset_url=url_of(request, "dataset", dataset_id=dataset.id) if dataset else None,
        warnings=list(asked.get("warnings", [])),
        status=recipe_status(request, state),
        curves=curves_panel(request, session, _trainings(state), compares=True, names=_curve_names(state)),
        request_facts=_request_facts(session, asked),
    )
    return render(request, "recipes/show.html", page)


@router.get("/recipes/{recipe_id:int}/status", name="pages:recipe_status")
def show_recipe_status(request: Request, session: SessionDep, recipe_id: int) -> Response:
    """The part of the page that refreshes itself; the curves stay as they are and hear of new runs."""
    fragment = RecipeFragment(recipe_status(request, recipes.get_recipe(session, recipe_id)))
    return render(request, "recipes/_status.html", fragment)


@router.post("/recipes/{recipe_id:int}/cancel", name="pages:recipe_cancel")
def cancel_recipe(request: Request, session: SessionDep, recipe_id: int) -> Response:
    """Cancels what is not over, and submits no more."""
    recipes.cancel(session, recipe_id)
    return see_other(url_of(request, "recipe", recipe_id=recipe_id))


@router.post("/recipes/{recipe_id:int}/retry", name="pages:recipe_retry")
def retry_recipe(request: Request, session: SessionDep, settings: SettingsDep, recipe_id: int) -> Response:
    """Does again what failed, and then what waits for it."""
    recipes.retry(session, settings, recipe_id)
    return see_other(url_of(request, "recipe", recipe_id=recipe_id))


@router.post("/recipes/{recipe_id:int}/delete", name="pages:recipe_delete")
def delete_recipe(request: Request, session: SessionDep, recipe_id: int) -> Response:
    """Forgets the recipe; its runs stay."""
    recipes.delete(session, recipe_id)
    return see_other(url_of(request, "recipes"))


def _request_facts(session: Session, asked: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was asked, data sets and task suites by their names."""
    named: dict[str, Any] = {}
    for name in ("scorer_dataset_id", "held_out_dataset_id"):
        if asked.get(name) is not None:
            dataset = find_dataset(session, asked[name])
            named[name.removesuffix("_id")] = dataset.name if dataset else f"{asked[name]}, which is gone"
    suites = [find_suite(session, suite_id) for suite_id in asked.get("suite_ids", [])]
    named["task suites"] = [suite.name if suite else "one that is gone" for suite in suites]
    untold = ("warnings", "scorer_dataset_id", "held_out_dataset_id", "suite_ids")
    return facts(
        {**named, **{name: value for name, value in asked.items() if name not in untold}}, RecipeBody
    )


# ------------------------------------------------------------------------------------------------ how it is


def recipe_line(request: Request, session: Session, state: RecipeState) -> RecipeLine:
    """A recipe as a line."""
    recipe = state.recipe
    dataset = find_dataset(session, recipe.request["dataset_id"])
    return RecipeLine(
        id=recipe.id,
        name=recipe.name,
        address=url_of(request, "recipe", recipe_id=recipe.id),
        status=state.status,
        is_active=not state.is_over,
        done=state.done,
        steps=len(state.steps),
        share=100 * state.done // max(1, len(state.steps)),
        dataset_name=dataset.name if dataset else None,
        created_at=recipe.created_at,
    )


def recipe_status(request: Request, state: RecipeState) -> RecipeStatus:
    """All that changes."""

    def address(name: str) -> str:
        return url_of(request, name, recipe_id=state.recipe.id)

    can_retry = any(step.status in BROKEN and step.status != "blocked" for step in state.steps)
    return RecipeStatus(
        refresh_url=address("recipe_status"),
        status=state.status,
        is_active=not state.is_over,
        done=state.done,
        total=len(state.steps),
        share=100 * state.done // max(1, len(state.steps)),
        reasons=[
            f"{step_label(step.name)}: {step.reason}"
            for step in state.steps
            if step.status in ("failed", "crashed", "refused") and step.reason
        ],
        stages=_stages(request, state),
        table=_table(request, recipe_tables.table(state)),
        curve_runs=as_json(
            [asdict(run) for run in curve_runs(request, _trainings(state), _curve_names(state))]
        ),
        cancel_url=None if state.is_over else address("recipe_cancel"),
        retry_url=address("recipe_retry") if can_retry else None,
        clone_url=url_of(request, "recipe_new", {"clone": state.recipe.id}),
        delete_url=address("recipe_delete") if state.is_over else None,
    )


def _trainings(state: RecipeState) -> list[Run]:
    """The trainings that are compared, as far as they are submitted; the scorer is none of them."""
    return [
        state.runs[step.name]
        for step in state.steps
        if step.kind == "training" and step.density is not None and step.name in state.runs
    ]


def _curve_names(state: RecipeState) -> dict[int, str]:
    """What the line of each training is called: its step, as all of them begin with the recipe's name."""
    return {run.id: step_label(name) for name, run in state.runs.items()}


def _stages(request: Request, state: RecipeState) -> list[Stage]:
    places: list[list[StepState]] = [[], [], [], []]
    for step in state.steps:
        place = {"scoring": 1, "evaluation": 3}.get(step.kind, 2 if step.density is not None else 0)
        places[place].append(step)
    return [
        Stage(
            title=title,
            hint=hint,
            done=sum(step.status == "succeeded" for step in steps),
            steps=[_plan_step(request, step, state.runs.get(step.name)) for step in steps],
        )
        for (title, hint), steps in zip(STAGES, places, strict=True)
        if steps
    ]


def _plan_step(request: Request, step: StepState, run: Run | None) -> PlanStep:
    return PlanStep(
        name=step_label(step.name),
        address=url_of(request, "run", run_id=run.id) if run is not None else None,
        status=step.status,
        share=percent_done(run.job) if run is not None and step.status == "running" else None,
        reason=step.reason,
        needs=", ".join(map(step_label, step.needs)),
    )


# ------------------------------------------------------------------------------------------------- the table


def _table(request: Request, table: ResultTable) -> CompareTable:
    order = sorted(range(len(table.columns)), key=lambda place: place_of(table.columns[place].metric))
    whole = [place for place in order if not table.columns[place].part]
    parts = [place for place in order if table.columns[place].part]
    groups: dict[str | None, list[CompareRow]] = {}
    for row in table.rows:
        groups.setdefault(row.method, []).append(_row(request, row, table.columns, whole, parts))
    return CompareTable(
        heads=[_head(table.columns[place]) for place in whole],
        part_heads=[_head(table.columns[place]) for place in parts],
        groups=[
            CompareGroup("" if method is None else title_of(method), rows) for method, rows in groups.items()
        ],
        compute=table.compute.replace("`", ""),
        base_is_missing=bool(table.rows) and None not in groups,
        verdicts=verdict_lines(verdicts(table)),
    )


def _head(column: FigureColumn) -> FigureHead:
    of = measured_on(column.metric, column.suite, column.part)
    return FigureHead(label_of(column.metric), hint_of(column.metric), of)


def _row(
    request: Request,
    row: ResultRow,
    columns: Sequence[FigureColumn],
    whole: Sequence[int],
    parts: Sequence[int],
) -> CompareRow:
    cells = [_cell(column, cell) for column, cell in zip(columns, row.cells, strict=True)]
    leads_to = row.run_ids or row.evaluation_ids
    loss = row.held_out_loss
    return CompareRow(
        density=row_label(row.density),
        address=url_of(request, "run", run_id=leads_to[0]) if len(leads_to) == 1 else None,
        status=row.status,
        is_done=row.status == "succeeded",
        seeds=row.seeds,
        cells=[cells[place] for place in whole],
        parts=[cells[place] for place in parts],
        held_out_loss=plain_number(loss.value if loss else None),
        kept=(row.kept_chosen, row.kept_rejected),
        tokens=None if row.tokens is None else round(row.tokens),
        seconds=row.seconds,
        verdict="collapsed: success fell below the base by more than 2 points" if row.collapsed else "",
    )


def _cell(column: FigureColumn, cell: ResultCell | None) -> FigureCell:
    if cell is None:
        return NOTHING
    return cell_of(column.metric, cell.value, cell.low, cell.high, cell.change)
