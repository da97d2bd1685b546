"""The form that submits a training, and its preview: what would be done, before anything is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from app.db.tables import JobStatus, Run
from app.dependencies import SessionDep, SettingsDep
from app.errors import AppError, problems_of, status_of
from app.pages.parts import training_fields as fields
from app.pages.parts.form_choices import FormChoices, form_choices, with_model_names
from app.pages.parts.form_fields import (
    FieldGroup,
    Typed,
    TypedDep,
    begun,
    body_from,
    faults_of,
    first,
    headline_of,
    shown,
    typed_from,
)
from app.pages.parts.forms import filled, page_number, validated
from app.pages.parts.numbers import data_size, shortened
from app.pages.parts.rendering import PageContext, render, see_other, url_of
from app.pages.parts.rule_controls import rule_query
from app.pages.parts.scoring_runs import scoring_runs
from app.services.runs import runs
from app.services.runs.views import find_dataset
from app.services.scorings.sources import SCORING
from app.services.trainings import trainings
from app.services.trainings.requests import MODELS, TRAINING, body_of
from app.services.trainings.trainings import TrainingBody, TrainingForecast
from app.settings import Settings
from engine.errors import EngineError
from engine.rules import SegmentationRule
from engine.training.methods import METHODS

FIRST_METHOD = "dpo"
NAME_CHARACTERS = 60
SHOWN_SCORINGS = 200

router = APIRouter()


@dataclass(frozen=True, slots=True)
class MemoryPart:
    """What memory is needed for."""

    name: str
    size: str


@dataclass(frozen=True, slots=True)
class TrainingPreview:
    """What a training would do, or why it cannot be."""

    problem: str | None = None
    faults: tuple[str, ...] = ()
    rows: int = 0
    held_out: int = 0
    steps: int = 0
    learning_rate: str = ""
    is_masked: bool = False
    kept_chosen: float | None = None
    kept_rejected: float | None = None
    sampled_pairs: int | None = None
    """The pairs that kept shares were read off; None where nothing is known of them."""
    nothing_kept: int = 0
    rule: str = ""
    reason: str = ""
    """Why it is this rule."""
    tokens_a_pivot: float | None = None
    memory: str = ""
    memory_parts: tuple[MemoryPart, ...] = ()
    memory_share: float | None = None
    """Of the largest worker's memory, at most 1."""
    worker: str | None = None
    """The largest worker's memory."""
    disk: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingPreviewFragment:
    """What a change of the form draws anew."""

    preview: TrainingPreview | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingForm(PageContext):
    """The form, with what was typed and what is wrong with it."""

    choices: FormChoices
    method: str
    open_groups: list[FieldGroup]
    folded_groups: list[FieldGroup]
    action: str
    preview_url: str
    preview: TrainingPreview | None
    back_url: str
    back_name: str
    problem: str | None
    faults: list[str]
    cloned_from: int | None


@router.get("/trainings/new", name="pages:training_new")
def show_training_form(request: Request, session: SessionDep) -> Response:
    """The form; `dataset` and `method` of the address are chosen in it, `clone` fills it with a run."""
    values = filled(request.query_params)
    cloned = page_number(values.get("clone"))
    run = None if cloned is None else runs.get_run(session, cloned)
    dataset_id = page_number(values.get("dataset")) or (run.dataset_id if run else None)
    groups = _groups(session, dataset_id)
    if run is not None and run.kind == TRAINING:
        again = begun(groups) | typed_from(groups, body_of(session, run))
        typed = with_model_names(session, again, MODELS)
        typed["cloned_from"] = [str(run.id)]
    else:
        typed = _proposed(session, groups, dataset_id, values.get("method", FIRST_METHOD))
        if "model" in values:
            typed["model"] = [values["model"]]
    return render(request, "trainings/new.html", _page(request, session, groups, typed))


@router.post("/trainings/preview", name="pages:training_preview")
def show_preview(request: Request, session: SessionDep, settings: SettingsDep, typed: TypedDep) -> Response:
    """What the training that was typed would do."""
    preview = _preview(session, settings, typed)
    return render(request, "trainings/_preview.html", TrainingPreviewFragment(preview))


@router.post("/trainings/new", name="pages:training_create")
def submit_training(
    request: Request, session: SessionDep, settings: SettingsDep, typed: TypedDep
) -> Response:
    """Queues the training and leads to its run, or shows the form again with what is wrong, or, where the
    preview was asked for, with that."""
    groups = _groups(session, _dataset_id(typed))
    if first(typed, "action") == "preview":
        page = _page(request, session, groups, typed, preview=_preview(session, settings, typed))
        return render(request, "trainings/new.html", page)
    try:
        with session.begin_nested():
            run = trainings.submit(session, settings, _body(groups, typed))
    except (AppError, EngineError) as error:
        page = _page(request, session, groups, typed, error=error)
        return render(request, "trainings/new.html", page, status=status_of(error))
    return see_other(url_of(request, "run", run_id=run.id))


# ----------------------------------------------------------------------------------------------- the form


def _groups(session: Session, dataset_id: int | None) -> list[FieldGroup]:
    known = form_choices(session)
    found = runs.newest_runs(session, kind=SCORING, status=JobStatus.succeeded, limit=SHOWN_SCORINGS)
    found.sort(key=lambda run: (run.dataset_id != dataset_id, -run.id))
    scored = [(str(run.id), _scoring(run)) for run in found]
    return [
        fields.what_group(known.datasets, scored),
        fields.length_group(),
        fields.name_group(known.suites),
        fields.method_group(),
        fields.lora_group(),
        fields.optimisation_group(),
        fields.data_group(known.datasets),
        fields.keeping_group(),
        fields.rule_group(),
    ]


def _scoring(run: Run) -> str:
    return f"Run {run.id}: {shortened(run.name, NAME_CHARACTERS)}"


def _dataset_id(typed: Typed) -> int | None:
    value = first(typed, "dataset_id")
    return int(value) if value.isdecimal() and len(value) < 19 else None


def _body(groups: Sequence[FieldGroup], typed: Typed) -> TrainingBody:
    method = first(typed, "method.name")
    body = body_from(groups, typed, method)
    fields.name_layers(body)
    if method not in fields.MASKED.split():
        body["supervision"] = {"density": "sample"}
    if first(typed, "cloned_from"):
        body["cloned_from"] = first(typed, "cloned_from")
    return validated(TrainingBody, body, "body")


def _proposed(
    session: Session, groups: Sequence[FieldGroup], dataset_id: int | None, method: str
) -> dict[str, list[str]]:
    """What the form begins with: the newest scoring's masks, and the model it compared with as the base."""
    typed = begun(groups) | {
        "method.name": [method if method in METHODS else FIRST_METHOD],
        "supervision.density": ["segment"],
        "dataset_id": [] if dataset_id is None else [str(dataset_id)],
    }
    scored = [
        run
        for run in (scoring_runs(session, dataset_id) if dataset_id is not None else [])
        if run.job.status == JobStatus.succeeded
    ]
    if scored:
        asked = scored[0].request
        typed["scoring_run_id"] = [str(scored[0].id)]
        base = asked.get("reference") or {}
        typed["model"] = [str(base["name"])] if base else []
    return typed


def _page(
    request: Request,
    session: Session,
    groups: Sequence[FieldGroup],
    typed: Typed,
    *,
    error: AppError | EngineError | None = None,
    preview: TrainingPreview | None = None,
) -> TrainingForm:
    method = first(typed, "method.name") or FIRST_METHOD
    filled_in, faults = shown(groups, typed, problems_of(error), method)
    dataset_id = _dataset_id(typed)
    cloned = first(typed, "cloned_from")
    dataset = find_dataset(session, dataset_id) if dataset_id is not None else None
    return TrainingForm(
        title="Train",
        section="home",
        choices=form_choices(session),
        method=method if method in METHODS else FIRST_METHOD,
        open_groups=[group for group in filled_in if group.title in fields.OPEN],
        folded_groups=[group for group in filled_in if group.title not in fields.OPEN],
        action=url_of(request, "training_create"),
        preview_url=url_of(request, "training_preview"),
        preview=preview,
        back_url=url_of(request, "dataset", dataset_id=dataset.id) if dataset else url_of(request, "home"),
        back_name=dataset.name if dataset else "Data",
        problem=None if error is None else headline_of(error, groups, method),
        faults=faults,
        cloned_from=int(cloned) if cloned.isdecimal() else None,
    )


# ---------------------------------------------------------------------------------------------- the preview


def _preview(session: Session, settings: Settings, typed: Typed) -> TrainingPreview | None:
    """None while too little is typed to say anything."""
    if not first(typed, "model") or _dataset_id(typed) is None:
        return None
    groups = _groups(session, _dataset_id(typed))
    try:
        return _told(trainings.preview(session, settings, _body(groups, typed)))
    except (AppError, EngineError) as error:
        faults = faults_of(error, groups, first(typed, "method.name"))
        if len(faults) == 1:
            return TrainingPreview(problem=faults[0])
        return TrainingPreview(problem="This cannot be trained yet.", faults=tuple(faults))


def _told(found: TrainingForecast) -> TrainingPreview:
    kept, largest = found.kept, found.largest_worker_bytes
    return TrainingPreview(
        rows=found.rows,
        held_out=found.held_out,
        steps=found.steps,
        learning_rate=f"{found.resolved.optimisation.learning_rate:g}",
        is_masked=found.rule is not None and not found.rule.keeps_everything,
        kept_chosen=kept.chosen if kept else None,
        kept_rejected=kept.rejected if kept else None,
        sampled_pairs=kept.pairs if kept else None,
        nothing_kept=kept.nothing if kept else 0,
        rule=_rule(found.rule) if found.rule else "",
        reason=found.reason,
        tokens_a_pivot=kept.figures.tokens_a_pivot if kept else None,
        memory=data_size(found.memory_needed),
        memory_parts=tuple(
            MemoryPart(name, data_size(size))
            for name, size in found.memory.items()
            if size and name != "total"
        ),
        memory_share=min(1.0, found.memory_needed / largest) if largest else None,
        worker=data_size(largest) if largest else None,
        disk=data_size(found.disk_needed),
        warnings=tuple(found.warnings),
    )


def _rule(rule: SegmentationRule) -> str:
    main: dict[str, Any] = {"segmenter": rule.segmenter.name, "baseline": rule.baseline, "scale": rule.scale}
    told = {**main, **rule_query(rule, SegmentationRule())}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in told.items())
