"""The home page: data sets, what to do next, what runs and waits, recipes, models; and the demo's button."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from app.db.tables import Dataset, JobStatus, Model, Run
from app.dependencies import SessionDep, SettingsDep
from app.pages.models.models import KINDS
from app.pages.parts.kind_pages import KIND_PAGES, KindPages, ResultLink
from app.pages.parts.numbers import counted
from app.pages.parts.rendering import PageContext, render, see_other, url_of
from app.pages.parts.run_rows import RunRow, run_row
from app.pages.recipes.recipes import RecipeLine, recipe_line
from app.services import demo
from app.services.datasets import datasets
from app.services.demo import DEMO
from app.services.models import models
from app.services.recipes import recipes
from app.services.runs import queue as queues
from app.services.runs import runs, workers
from app.services.scorings.sources import SCORING

SHOWN_RUNS = 8
SHOWN_DATASETS = 50
SHOWN_MODELS = 8
SHOWN_RECIPES = 5
SHOWN_STEPS = 3

router = APIRouter()


@dataclass(frozen=True, slots=True)
class DatasetRow:
    """A line of the list of data sets."""

    name: str
    address: str
    pairs: int
    annotated: bool
    has_token_rewards: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A line of a list of models."""

    name: str
    address: str
    kind: str
    parameters: int | None


@dataclass(frozen=True, slots=True)
class NextStep:
    """Something worth doing next, with the reason."""

    label: str
    reason: str
    address: str


@dataclass(frozen=True, slots=True)
class QueueGlance:
    """A queue in a few words."""

    name: str
    running: int
    waiting: int


@dataclass(frozen=True, slots=True)
class WorkerGlance:
    """A worker that joined."""

    name: str
    device: str | None
    """The device that it was told to use; None where it takes the best that it finds."""
    queues: str
    state: str
    """`busy`, `idle` or `gone`."""
    heartbeat_at: datetime


@dataclass(frozen=True, slots=True)
class Activity:
    """What changes while one looks on: the newest runs and the workers."""

    runs: list[RunRow]
    workers: list[WorkerGlance]
    queues: list[QueueGlance]
    """Queues in which something waits or runs."""
    is_active: bool
    is_served: bool
    """Whether any worker is alive."""


@dataclass(frozen=True, slots=True)
class ActivityFragment:
    """What a refresh draws anew."""

    activity: Activity


@dataclass(frozen=True, slots=True)
class StartFragment:
    """How to begin, while there is no data set."""

    demo: RunRow | None
    """The run that makes the demo just now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HomePage(PageContext):
    """The whole page."""

    datasets: list[DatasetRow]
    demo: RunRow | None
    steps: list[NextStep]
    recipes: list[RecipeLine]
    models: list[ModelRow]
    activity: Activity


@router.get("/", name="pages:home")
def show_home(request: Request, session: SessionDep) -> Response:
    """The home page; without data sets it says how to begin."""
    found = datasets.list_datasets(session, limit=SHOWN_DATASETS).items
    compared = [
        recipe_line(request, session, state)
        for state in recipes.list_recipes(session, limit=SHOWN_RECIPES).items
    ]
    page = HomePage(
        title="Home",
        section="home",
        datasets=[dataset_row(request, dataset) for dataset in found],
        demo=_active_demo(request, session),
        steps=_next_steps(request, session, found[0], compared) if found else [],
        recipes=compared,
        models=[model_row(request, model) for model in models.list_models(session, limit=SHOWN_MODELS).items],
        activity=_activity(request, session),
    )
    return render(request, "home/show.html", page)


@router.get("/activity", name="pages:activity")
def show_activity(request: Request, session: SessionDep) -> Response:
    """The part of the home page that refreshes itself."""
    return render(request, "home/_activity.html", ActivityFragment(_activity(request, session)))


@router.get("/start", name="pages:start")
def show_start(request: Request, session: SessionDep) -> Response:
    """How far the demo is; once there is a data set, or nothing goes on, it asks for the whole page again."""
    demo = _active_demo(request, session)
    waits = demo is not None and not datasets.list_datasets(session, limit=1).items
    headers = {} if waits else {"HX-Refresh": "true"}
    return render(request, "home/_start.html", StartFragment(demo), headers=headers)


@router.post("/demo", name="pages:demo")
def load_demo(request: Request, session: SessionDep, settings: SettingsDep) -> Response:
    """Starts the demo, or leads to the run that did."""
    run = demo.load(session, settings)
    return see_other(url_of(request, "run", run_id=run.id))


def dataset_row(request: Request, dataset: Dataset) -> DatasetRow:
    """A data set as a line."""
    return DatasetRow(
        name=dataset.name,
        address=url_of(request, "dataset", dataset_id=dataset.id),
        pairs=dataset.pair_count,
        annotated=dataset.annotated,
        has_token_rewards=dataset.has_token_rewards,
        created_at=dataset.created_at,
    )


def model_row(request: Request, model: Model) -> ModelRow:
    """A model as a line."""
    address = url_of(request, "model", model_id=model.id)
    return ModelRow(model.name, address, KINDS.get(model.kind, model.kind), model.parameters)


def _next_steps(
    request: Request, session: Session, newest: Dataset, compared: Sequence[RecipeLine]
) -> list[NextStep]:
    """What somebody with this data would do next, the nearest first."""
    steps = []
    scored = runs.newest_runs(session, kind=SCORING, status=JobStatus.succeeded, limit=1)
    of_newest = runs.newest_runs(session, kind=SCORING, dataset_id=newest.id, limit=1)
    if not of_newest:
        address = url_of(request, "score", dataset_id=newest.id)
        reason = f"{counted(newest.pair_count, 'pair')} without token rewards of a model yet."
        steps.append(NextStep(f"Score {newest.name}", reason, address))
    if scored and scored[0].dataset is not None:
        query = {"run": scored[0].id, "sort": "conflict", "relation": "contradict"}
        address = url_of(request, "dataset", query, dataset_id=scored[0].dataset.id) + "#found"
        reason = f"Where {scored[0].dataset.name} disagrees with its own preferences, worst first."
        steps.append(NextStep("Read the contradicting pairs", reason, address))
    done = next((one for one in compared if one.status == JobStatus.succeeded), None)
    if done is not None:
        reason = "What each granularity came to at equal steps, against the base."
        steps.append(NextStep("See whether masking helped", reason, done.address))
    elif scored and not any(one.is_active for one in compared):
        address = url_of(request, "recipe_new", {"dataset": scored[0].dataset_id})
        reason = "Sample, step, token, segment: trained alike, evaluated side by side."
        steps.append(NextStep("Compare granularities", reason, address))
    reason = "A prompt and a response or two, scored at once."
    steps.append(NextStep("Score a text of your own", reason, url_of(request, "playground")))
    return steps[:SHOWN_STEPS]


def _active_demo(request: Request, session: Session) -> RunRow | None:
    newest = runs.newest_runs(session, kind=DEMO, limit=1)
    lines = [run_row(request, run) for run in newest]
    return next((line for line in lines if line.is_active), None)


def _activity(request: Request, session: Session) -> Activity:
    newest: Sequence[Run] = runs.newest_runs(session, limit=SHOWN_RUNS)
    lines = [run_row(request, run) for run in newest]
    present = [
        WorkerGlance(
            name=worker.name,
            device=None if worker.device == "auto" else worker.device,
            queues=", ".join(worker.queues),
            state=worker.state,
            heartbeat_at=worker.heartbeat_at,
        )
        for worker in workers.list_workers(session)
    ]
    return Activity(
        runs=lines,
        workers=present,
        queues=[
            QueueGlance(queue.name, len(queue.running), queue.waiting_count)
            for queue in queues.list_queues(session, limit=1)
        ],
        is_active=any(line.is_active for line in lines),
        is_served=any(worker.state != "gone" for worker in present),
    )


def _demo_result(request: Request, run: Run) -> ResultLink | None:
    """The scoring that the demo submitted, else its data set."""
    result = run.result or {}
    if "dataset_id" not in result:
        return None
    scoring = result.get("run_id")
    if scoring is not None:
        return ResultLink(url_of(request, "run", run_id=scoring), "Watch the demo being scored")
    query = {"sort": "conflict"}
    return ResultLink(
        url_of(request, "dataset", query, dataset_id=result["dataset_id"]), "Open the demo data set"
    )


KIND_PAGES.register(KindPages(name=DEMO, result=_demo_result))
