"""Recipes: runs that are asked for at once and follow one another. A recipe's status is that of its runs.

submit ──> advance ──> runs of every step whose needs are met
              ^               │ succeeds, in the same transaction
              └───────────────┘
A step that failed stops only what needs it; retrying it lets the recipe go on. Jobs are locked before their
recipe, by everybody, or two would deadlock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog
from sqlalchemy import func, select
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session, defer, joinedload
from sqlalchemy.sql.base import ExecutableOption

from app.db import queue as job_queue
from app.db.notifications import notify
from app.db.tables import Job, JobStatus, Recipe, Run
from app.errors import AppError, Conflict, NotFound, NotReady, sentence_of
from app.services.datasets.datasets import ACTIVE
from app.services.evaluations import evaluations
from app.services.evaluations.evaluations import EvaluationBody
from app.services.paging import DEFAULT_LIMIT, Page, decode_cursor, encode_cursor, page_limit
from app.services.recipes.defaults import defaults as defaults
from app.services.recipes.plans import RecipePlan, plan_recipe
from app.services.recipes.requests import RecipeBody, filled
from app.services.runs import jobs
from app.services.scorings import scorings
from app.services.scorings.scorings import ScoringRequest
from app.services.trainings import trainings
from app.services.trainings.requests import TrainingBody
from app.settings import Settings
from engine.errors import EngineError

log = structlog.get_logger(__name__)

LOOKED_AT = 10
"""Recipes on a data set among which those that succeeded are looked for."""


@dataclass(frozen=True, slots=True)
class StepState:
    """A step of a plan as it is now."""

    name: str
    kind: str
    needs: list[str]
    method: str | None
    density: str | None
    status: str
    """A job's status, or `waiting` (for what it needs), `blocked` (by what failed), `refused` (could not be
    submitted), `deleted` (its run is gone)."""
    run_id: int | None
    reason: str | None
    """Why it failed, is blocked or was refused."""


@dataclass(frozen=True, slots=True)
class RecipeState:
    """A recipe with its steps, as its runs have it now."""

    recipe: Recipe
    status: str
    """`queued`, `running`, `succeeded`, `failed` or `cancelled`."""
    steps: list[StepState]
    runs: Mapping[str, Run]
    """By step; each with its job loaded."""

    @property
    def is_over(self) -> bool:
        return self.status not in ("queued", "running")

    @property
    def done(self) -> int:
        """How many steps have succeeded."""
        return sum(step.status == JobStatus.succeeded for step in self.steps)


def preview(session: Session, settings: Settings, body: RecipeBody) -> RecipePlan:
    """What a recipe would do, without submitting it; nothing is written, nor any model registered.

    Raises as `submit`, but for a training that finds no room: that is said among the warnings.
    """
    nested = session.begin_nested()
    try:
        return plan_recipe(session, settings, body)
    finally:
        nested.rollback()


def submit(session: Session, settings: Settings, body: RecipeBody) -> Recipe:
    """A recipe whose first runs are queued. Everything that can be wrong with the request is said now:
    NotFound (a data set), Invalid, RequestError, ModelError, Forbidden, StorageFull."""
    found = plan_recipe(session, settings, body)
    recipe = Recipe(
        name=found.name,
        request=body.model_dump(mode="json") | {"warnings": found.warnings},
        plan=[step.to_json() for step in found.steps],
    )
    session.add(recipe)
    session.flush()
    session.refresh(recipe)
    for step in _ready(recipe, {}):
        _submit_step(session, settings, recipe, step, {})
    return recipe


def list_recipes(
    session: Session, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[RecipeState]:
    """Recipes, newest first."""
    query = select(Recipe).order_by(Recipe.id.desc()).limit(page_limit(limit) + 1)
    if cursor is not None:
        query = query.where(Recipe.id < decode_cursor(cursor, [int])[0])
    found = list(session.scalars(query))
    shown = found[:limit]
    # A request and a result are some kilobytes each, and a list shows neither.
    runs = _runs(session, [recipe.id for recipe in shown], defer(Run.request), defer(Run.result))
    states = [_state(recipe, runs.get(recipe.id, {})) for recipe in shown]
    total = session.scalar(select(func.count()).select_from(Recipe))
    return Page(states, encode_cursor(shown[-1].id) if len(found) > limit else None, total)


def get_recipe(session: Session, recipe_id: int) -> RecipeState:
    """The recipe as its runs have it now. Raises NotFound."""
    recipe = session.get(Recipe, recipe_id, populate_existing=True)
    if recipe is None:
        raise NotFound(f"There is no recipe {recipe_id}; the list of recipes shows those that exist.")
    return _state(recipe, _runs(session, [recipe_id]).get(recipe_id, {}))


def succeeded_on(session: Session, dataset_id: int) -> Iterator[RecipeState]:
    """Recipes that trained on a data set and have succeeded, newest first; each is read as it is taken."""
    query = (
        select(Recipe)
        .where(Recipe.request["dataset_id"].as_integer() == dataset_id)
        .order_by(Recipe.id.desc())
        .limit(LOOKED_AT)
    )
    found = list(session.scalars(query))
    runs = _runs(session, [recipe.id for recipe in found], defer(Run.request), defer(Run.result))
    for recipe in found:
        if _state(recipe, runs.get(recipe.id, {})).status == JobStatus.succeeded:
            yield get_recipe(session, recipe.id)


def cancel(session: Session, recipe_id: int) -> RecipeState:
    """Cancels every run of the recipe that is not over, and submits no more. Cancelled already: stays so.

    Raises NotFound, and Conflict when it ended in another way.
    """
    state = get_recipe(session, recipe_id)
    if state.status == "cancelled":
        return state
    if state.is_over:
        raise Conflict(f"Recipe {recipe_id} has {state.status} already; there is nothing left to cancel.")
    _cancel_active(session, recipe_id)
    _locked(session, recipe_id).cancel_requested = True
    session.flush()
    _cancel_active(session, recipe_id)  # Those that a run submitted which ended meanwhile.
    return get_recipe(session, recipe_id)


def retry(session: Session, settings: Settings, recipe_id: int) -> RecipeState:
    """Does again what failed, was cancelled, refused or deleted, and then what waits for it.

    Raises NotFound, and Conflict where there is nothing of that kind.
    """
    state = get_recipe(session, recipe_id)
    again = [step for step in state.steps if step.status in _RETRIED]
    if not again:
        raise Conflict(
            f"Recipe {recipe_id} is {state.status}, and none of its steps failed; there is nothing to retry."
        )
    for step in again:
        if step.run_id is not None and step.status != "deleted":
            jobs.retry(session, step.run_id)
    recipe = _locked(session, recipe_id)
    recipe.cancel_requested = False
    recipe.error = None
    gone = {step.name for step in again if step.status == "deleted"}
    recipe.plan = [step | {"run": None} if step["name"] in gone else step for step in recipe.plan]
    session.flush()
    _advance(session, settings, recipe)
    return get_recipe(session, recipe_id)


def delete(session: Session, recipe_id: int) -> None:
    """Forgets the recipe; its runs stay, with their models and figures.

    Raises NotFound, and Conflict while a run of it is not over.
    """
    state = get_recipe(session, recipe_id)
    if not state.is_over:
        raise Conflict(f"Recipe {recipe_id} is {state.status}; cancel it before you delete it.")
    session.delete(state.recipe)
    session.flush()


def body_of(recipe: Recipe) -> RecipeBody:
    """The body that asks for the same recipe once more, to be changed first."""
    return RecipeBody.model_validate({name: recipe.request[name] for name in RecipeBody.model_fields})


def after_run(session: Session, settings: Settings, run_id: int) -> None:
    """Submits what waited for this run, which has just succeeded, where it is a step of a recipe."""
    recipe_id = session.scalar(select(Run.recipe_id).where(Run.id == run_id))
    if recipe_id is not None:
        _advance(session, settings, _locked(session, recipe_id))


def advance_stuck(session: Session, settings: Settings) -> list[int]:
    """Submits what waits for nothing any more, in recipes of which no run is active; their ids.

    A recipe goes on when its runs end; this is for one whose run ended under a worker of another release.
    """
    if not job_queue.only_one(session, "advance recipes"):
        return []
    active = select(Run.id).join(Job).where(Run.recipe_id == Recipe.id, Job.status.in_(ACTIVE))
    made = select(func.count()).where(Run.recipe_id == Recipe.id).scalar_subquery()
    unfinished = select(Recipe.id).where(
        Recipe.cancel_requested.is_(False),
        ~active.exists(),
        made < func.jsonb_array_length(Recipe.plan),
    )
    advanced = []
    for recipe_id in session.scalars(unfinished.order_by(Recipe.id)).all():
        if _advance(session, settings, _locked(session, recipe_id)):
            advanced.append(recipe_id)
    return advanced


# --------------------------------------------------------------------------------------------------- going on

_RETRIED = ("failed", "crashed", "cancelled", "refused", "deleted")
_BROKEN = (*_RETRIED, "blocked")


def _advance(session: Session, settings: Settings, recipe: Recipe) -> int:
    """Submits every step of the locked recipe whose needs are met; returns how many it tried."""
    if recipe.cancel_requested:
        return 0
    runs = _runs(session, [recipe.id]).get(recipe.id, {})
    made = {name: _made_by(run) for name, run in runs.items() if run.job.status == JobStatus.succeeded}
    ready = _ready(recipe, made)
    for step in ready:
        try:
            with session.begin_nested():
                _submit_step(session, settings, recipe, step, made)
        except (NotReady, OperationalError, InterfaceError):  # The data base's fault, not the data's.
            raise
        except (AppError, EngineError) as error:
            _refused(session, recipe, step["name"], error.code, sentence_of(error))
        except Exception as error:
            log.exception("recipe_step_failed", recipe_id=recipe.id, step=step["name"])
            detail = f"The server met an unexpected error: {type(error).__name__}: {error}"
            _refused(session, recipe, step["name"], "internal_error", detail)
    return len(ready)


def _ready(recipe: Recipe, made: Mapping[str, int]) -> list[dict[str, Any]]:
    """Steps that nobody submitted yet, though all that they need is made."""
    refused = _refusals(recipe)
    return [
        step
        for step in recipe.plan
        if step["run"] is None and step["name"] not in refused and all(need in made for need in step["needs"])
    ]


def _submit_step(
    session: Session, settings: Settings, recipe: Recipe, step: dict[str, Any], made: Mapping[str, int]
) -> None:
    request = filled(step["request"], made)
    match step["kind"]:
        case "training":
            run = trainings.submit(session, settings, TrainingBody.model_validate(request))
        case "scoring":
            run = scorings.submit(session, settings, ScoringRequest.model_validate(request))
        case _:
            run = evaluations.submit(session, settings, EvaluationBody.model_validate(request))
    run.recipe_id, run.recipe_step = recipe.id, step["name"]
    recipe.plan = [one | {"run": run.id} if one["name"] == step["name"] else one for one in recipe.plan]
    session.flush()
    notify(session, run.id)


def _made_by(run: Run) -> int:
    """The id that later steps take: of the model that a training made, else of the run itself."""
    return int((run.result or {}).get("model_id", run.id))


def _refused(session: Session, recipe: Recipe, step: str, code: str, detail: str) -> None:
    """Keeps why a step could not be submitted: the first one on top, all of them by step."""
    refusals = _refusals(recipe) | {step: {"code": code, "detail": detail}}
    first = next(iter(refusals))
    recipe.error = {**refusals[first], "step": first, "steps": refusals}
    session.flush()


def _refusals(recipe: Recipe) -> dict[str, dict[str, Any]]:
    return dict((recipe.error or {}).get("steps", {}))


def _cancel_active(session: Session, recipe_id: int) -> None:
    active = select(Run.id).join(Job).where(Run.recipe_id == recipe_id, Job.status.in_(ACTIVE))
    for run_id in session.scalars(active.order_by(Run.id)).all():
        try:
            jobs.cancel(session, run_id)
        except Conflict:
            continue  # It has ended since we looked.


def _locked(session: Session, recipe_id: int) -> Recipe:
    return session.get_one(Recipe, recipe_id, with_for_update=True, populate_existing=True)


# -------------------------------------------------------------------------------------------------- how it is


def _runs(
    session: Session, recipe_ids: Sequence[int], *options: ExecutableOption
) -> dict[int, dict[str, Run]]:
    """The runs of recipes by recipe and step, as the tables have them now."""
    query = (
        select(Run)
        .where(Run.recipe_id.in_(recipe_ids))
        .options(joinedload(Run.job), *options)
        .order_by(Run.id)
        .execution_options(populate_existing=True)
    )
    found: dict[int, dict[str, Run]] = {}
    for run in session.scalars(query):
        assert run.recipe_id is not None, "the query asked for it"
        assert run.recipe_step is not None, "whoever wrote the one wrote the other"
        found.setdefault(run.recipe_id, {})[run.recipe_step] = run
    return found


def _state(recipe: Recipe, runs: Mapping[str, Run]) -> RecipeState:
    steps: dict[str, StepState] = {}
    for step in recipe.plan:
        steps[step["name"]] = _step_state(recipe, step, runs.get(step["name"]), steps)
    return RecipeState(recipe, _status(recipe, list(steps.values())), list(steps.values()), runs)


def _step_state(
    recipe: Recipe, step: Mapping[str, Any], run: Run | None, earlier: Mapping[str, StepState]
) -> StepState:
    state = StepState(
        name=step["name"],
        kind=step["kind"],
        needs=list(step["needs"]),
        method=step["method"],
        density=step["density"],
        status="waiting",
        run_id=step["run"],
        reason=None,
    )
    if run is not None:
        return replace(state, status=run.job.status, reason=(run.job.error or {}).get("detail"))
    if step["run"] is not None:
        return replace(state, status="deleted", reason=f"Its run {step['run']} was deleted.")
    refusal = _refusals(recipe).get(step["name"])
    if refusal is not None:
        return replace(state, status="refused", reason=refusal["detail"])
    broken = next((earlier[need] for need in step["needs"] if earlier[need].status in _BROKEN), None)
    if broken is not None:
        return replace(state, status="blocked", reason=f"It needs `{broken.name}`, which is {broken.status}.")
    if recipe.cancel_requested:
        return replace(state, status="cancelled", reason="The recipe was cancelled before it began.")
    return state


def _status(recipe: Recipe, steps: Sequence[StepState]) -> str:
    statuses = {step.status for step in steps}
    if statuses & set(ACTIVE) or ("waiting" in statuses and not recipe.cancel_requested):
        return "queued" if statuses <= {"queued", "waiting"} else "running"
    if statuses == {"succeeded"}:
        return "succeeded"
    return "cancelled" if recipe.cancel_requested else "failed"
