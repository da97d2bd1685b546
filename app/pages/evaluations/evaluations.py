"""The form that submits an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from app.dependencies import SessionDep, SettingsDep
from app.errors import AppError, problems_of, status_of
from app.pages.parts.form_choices import FormChoices, form_choices, with_model_names
from app.pages.parts.form_fields import (
    FieldGroup,
    Typed,
    TypedDep,
    body_from,
    field_of,
    headline_of,
    shown,
    typed_from,
)
from app.pages.parts.forms import filled, page_number, validated
from app.pages.parts.rendering import PageContext, render, see_other, url_of
from app.pages.parts.training_fields import fields_of, model_field
from app.services.evaluations import evaluations
from app.services.evaluations.evaluations import EvaluationBody
from app.services.runs import kinds, runs
from engine.errors import EngineError
from engine.evaluation.request import EvaluationNumbers

router = APIRouter()


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationForm(PageContext):
    """The form, with what was typed and what is wrong with it."""

    choices: FormChoices
    open_group: FieldGroup
    folded_group: FieldGroup
    action: str
    back_url: str
    problem: str | None
    faults: list[str]


@router.get("/evaluations/new", name="pages:evaluation_new")
def show_evaluation_form(request: Request, session: SessionDep) -> Response:
    """The form; `model`, `reference` and `dataset` of the address are chosen in it, `clone` fills it with a
    run."""
    values = filled(request.query_params)
    known = form_choices(session)
    groups = _groups(known)
    cloned = page_number(values.get("clone"))
    if cloned is None:
        names = {"model": "model", "reference": "reference", "dataset": "dataset_id"}
        typed = {field: [values[name]] for name, field in names.items() if name in values}
    else:
        again = typed_from(groups, kinds.clone(session, runs.get_run(session, cloned)).body)
        typed = with_model_names(session, again, ("model", "reference"))
    return render(request, "evaluations/new.html", _page(request, known, groups, typed))


@router.post("/evaluations/new", name="pages:evaluation_create")
def submit_evaluation(
    request: Request, session: SessionDep, settings: SettingsDep, typed: TypedDep
) -> Response:
    """Queues the evaluation and leads to its run, or shows the form again with what is wrong."""
    known = form_choices(session)
    groups = _groups(known)
    try:
        with session.begin_nested():
            body = validated(EvaluationBody, body_from(groups, typed), "body")
            run = evaluations.submit(session, settings, body)
    except (AppError, EngineError) as error:
        page = _page(request, known, groups, typed, error)
        return render(request, "evaluations/new.html", page, status=status_of(error))
    return see_other(url_of(request, "run", run_id=run.id))


def _groups(known: FormChoices) -> list[FieldGroup]:
    return [
        FieldGroup(
            "What is measured",
            (
                model_field(EvaluationBody, "model"),
                model_field(EvaluationBody, "reference"),
                field_of(EvaluationBody, "suite_ids", choices=known.suites),
                field_of(EvaluationBody, "dataset_id", kind="select", choices=known.datasets),
                field_of(EvaluationBody, "name"),
            ),
            is_open=True,
        ),
        FieldGroup("Settings", fields_of(EvaluationBody, *EvaluationNumbers.model_fields)),
    ]


def _page(
    request: Request,
    known: FormChoices,
    groups: Sequence[FieldGroup],
    typed: Typed,
    error: AppError | EngineError | None = None,
) -> EvaluationForm:
    (opened, folded), faults = shown(groups, typed, problems_of(error))
    return EvaluationForm(
        title="Evaluate",
        section="models",
        choices=known,
        open_group=opened,
        folded_group=folded,
        action=url_of(request, "evaluation_create"),
        back_url=url_of(request, "models"),
        problem=None if error is None else headline_of(error, groups),
        faults=faults,
    )
