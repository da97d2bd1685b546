"""The home page: data sets, what runs, who works, which models there are; and the demo's button."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from rewardscope.app.db.models import Dataset, Model, Run
from rewardscope.app.dependencies import SessionDep, SettingsDep
from rewardscope.app.pages.models import KINDS
from rewardscope.app.pages.rendering import PageContext, render, see_other, url_of
from rewardscope.app.pages.run_rows import RunRow, run_row
from rewardscope.app.services import datasets, demo, models, runs, workers

SHOWN_RUNS = 8
SHOWN_DATASETS = 50
SHOWN_MODELS = 8

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
class WorkerLine:
    """A worker that joined."""

    name: str
    device: str | None
    """The device that it was told to use; None where it takes the best that it finds."""
    queues: str
    is_alive: bool
    heartbeat_at: datetime


@dataclass(frozen=True, slots=True)
class Activity:
    """What changes while one looks on: the newest runs and the workers."""

    runs: list[RunRow]
    workers: list[WorkerLine]
    waiting: int
    """Runs that wait for a worker."""
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
    models: list[ModelRow]
    activity: Activity


@router.get("/", name="pages:home")
def show_home(request: Request, session: SessionDep) -> Response:
    """The home page; without data sets it says how to begin."""
    page = HomePage(
        title="Data",
        section="home",
        datasets=[
            dataset_row(request, dataset)
            for dataset in datasets.list_datasets(session, limit=SHOWN_DATASETS).items
        ],
        demo=_active_demo(request, session),
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


def _active_demo(request: Request, session: Session) -> RunRow | None:
    newest = runs.list_runs(session, kind="demo", limit=1).items
    lines = [run_row(request, run) for run in newest]
    return next((line for line in lines if line.is_active), None)


def _activity(request: Request, session: Session) -> Activity:
    newest: Sequence[Run] = runs.list_runs(session, limit=SHOWN_RUNS).items
    lines = [run_row(request, run) for run in newest]
    present = [
        WorkerLine(
            name=worker.name,
            device=None if worker.device == "auto" else worker.device,
            queues=", ".join(worker.queues),
            is_alive=worker.alive,
            heartbeat_at=worker.heartbeat_at,
        )
        for worker in workers.list_workers(session)
    ]
    return Activity(
        runs=lines,
        workers=present,
        waiting=runs.count_by_status(session)["queued"],
        is_active=any(line.is_active for line in lines),
        is_served=any(worker.is_alive for worker in present),
    )
