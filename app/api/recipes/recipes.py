"""Recipes: scorer, scores, trainings and evaluations from one submission, and the table that they make."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session
from starlette.responses import JSONResponse

from app.api.parts import lists
from app.api.parts.common import PREFIX, Id, View, door
from app.api.parts.idempotency import Done, OnceDep
from app.api.parts.lists import Listing, PagingDep
from app.api.runs.runs import JobFailure
from app.dependencies import DatabaseDep, SessionDep, SettingsDep
from app.problems import responses
from app.services.paging import Page
from app.services.recipes import recipes
from app.services.recipes.plans import RecipePlan
from app.services.recipes.recipes import RecipeState, StepState
from app.services.recipes.requests import RecipeBody
from app.services.recipes.tables import ResultTable, table
from app.services.recipes.verdicts import MaskingVerdict, verdicts


class RecipeFailure(JobFailure):
    """Why a step could not be submitted."""

    step: str


class RecipeSummary(View):
    """A recipe as lists show it."""

    id: int
    name: str
    status: str
    """`queued`, `running`, `succeeded`, `failed` or `cancelled`: what its runs make of it."""
    is_over: bool
    done: int
    """Steps that have succeeded."""
    total: int
    cancel_requested: bool
    created_at: datetime

    @classmethod
    def summary_of(cls, state: RecipeState) -> RecipeSummary:
        """The summary of a recipe as its runs have it."""
        return RecipeSummary(
            id=state.recipe.id,
            name=state.recipe.name,
            status=state.status,
            is_over=state.is_over,
            done=state.done,
            total=len(state.steps),
            cancel_requested=state.recipe.cancel_requested,
            created_at=state.recipe.created_at,
        )


class RecipeView(RecipeSummary):
    """A recipe with its steps, its table, and all that was asked."""

    request: dict[str, Any]
    warnings: list[str]
    error: RecipeFailure | None
    steps: list[StepState]
    table: ResultTable
    verdicts: list[MaskingVerdict]

    @classmethod
    def of(cls, state: RecipeState) -> RecipeView:
        """The view of a recipe as its runs have it."""
        request = dict(state.recipe.request)
        error = state.recipe.error
        found = table(state)
        return cls(
            **dict(RecipeSummary.summary_of(state)),
            warnings=request.pop("warnings", []),
            request=request,
            error=None
            if error is None
            else RecipeFailure(code=error["code"], detail=error["detail"], step=error["step"]),
            steps=state.steps,
            table=found,
            verdicts=verdicts(found),
        )


router = door("recipes")


@router.post("", status_code=202, response_model=RecipeView, responses=responses(409, 507))
def submit_recipe(
    body: RecipeBody, session: SessionDep, settings: SettingsDep, once: OnceDep
) -> JSONResponse:
    """Queues the first runs of a recipe; the others follow by themselves as what they need succeeds."""

    def work() -> Done:
        return _accepted(recipes.get_recipe(session, recipes.submit(session, settings, body).id))

    return once.answer(session, body.model_dump_json().encode(), work)


@router.post("/preview", responses=responses(507))
def preview_recipe(body: RecipeBody, session: SessionDep, settings: SettingsDep) -> RecipePlan:
    """The plan of a recipe and what to know of it, without submitting anything."""
    return recipes.preview(session, settings, body)


@router.get("", response_model=Listing[RecipeSummary], responses=lists.FILES)
def list_recipes(paging: PagingDep, database: DatabaseDep) -> Any:
    """Recipes, newest first."""

    def fetch(session: Session, limit: int, cursor: str | None) -> Page[RecipeSummary]:
        page = recipes.list_recipes(session, limit=limit, cursor=cursor)
        return Page([RecipeSummary.summary_of(state) for state in page.items], page.next_cursor, page.total)

    return lists.answer(database, paging, fetch, RecipeSummary, "recipes")


@router.get("/{recipe_id}")
def read_recipe(recipe_id: Id, session: SessionDep) -> RecipeView:
    """One recipe: how far each step is, and the table as far as it is known."""
    return RecipeView.of(recipes.get_recipe(session, recipe_id))


@router.post("/{recipe_id}/cancel", status_code=202, responses=responses(409))
def cancel_recipe(recipe_id: Id, session: SessionDep) -> RecipeView:
    """Cancels every run of the recipe that is not over, and submits no more."""
    return RecipeView.of(recipes.cancel(session, recipe_id))


@router.post("/{recipe_id}/retry", status_code=202, response_model=RecipeView, responses=responses(409, 507))
def retry_recipe(recipe_id: Id, session: SessionDep, settings: SettingsDep, once: OnceDep) -> JSONResponse:
    """Does again what failed, was cancelled, refused or deleted; the recipe goes on from there."""
    return once.answer(session, b"", lambda: _accepted(recipes.retry(session, settings, recipe_id)))


@router.delete("/{recipe_id}", status_code=204, responses=responses(409))
def delete_recipe(recipe_id: Id, session: SessionDep) -> None:
    """Forgets a recipe that is over; its runs stay, with their models and figures."""
    recipes.delete(session, recipe_id)


def _accepted(state: RecipeState) -> Done:
    return Done(202, RecipeView.of(state), {"Location": f"{PREFIX}/recipes/{state.recipe.id}"})
