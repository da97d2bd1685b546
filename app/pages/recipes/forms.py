"""The form that submits a recipe, and its preview: which runs it makes, and what to know of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

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
    field_of,
    first,
    headline_of,
    shown,
    typed_from,
    words,
)
from app.pages.parts.forms import filled, page_number, validated
from app.pages.parts.numbers import counted
from app.pages.parts.rendering import PageContext, render, see_other, url_of
from app.services.recipes import recipes
from app.services.recipes.requests import COMPARED_STEPS, RecipeBody, count_by_kind
from app.services.recipes.words import step_label
from app.services.runs.views import find_dataset
from app.settings import Settings
from engine.errors import EngineError
from engine.fields import declared
from engine.training.densities import DENSITIES
from engine.training.request import TrainingNumbers

METHODS = "Each with the hyperparameters that it has by default."
SEEDS = "With commas between; several give a mean with an interval."
MODELS = ("model", "scorer", "reward_model")
"""The fields that name one."""

router = APIRouter()


@dataclass(frozen=True, slots=True)
class PreviewStep:
    """A run that would be made."""

    name: str
    kind: str
    needs: str


@dataclass(frozen=True, slots=True)
class RecipePreview:
    """What a recipe would do, or why it cannot be."""

    problem: str | None = None
    runs: tuple[str, ...] = ()
    """How many of each kind."""
    steps: tuple[PreviewStep, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecipePreviewFragment:
    """What a change of the form draws anew."""

    preview: RecipePreview | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeForm(PageContext):
    """The form, with what was typed and what is wrong with it."""

    choices: FormChoices
    open_groups: list[FieldGroup]
    folded_groups: list[FieldGroup]
    action: str
    preview_url: str
    preview: RecipePreview | None
    back_url: str
    notice: str | None
    """What a cloned recipe says that the form has no fields for."""
    problem: str | None
    faults: list[str]


@router.get("/recipes/new", name="pages:recipe_new")
def show_recipe_form(request: Request, session: SessionDep) -> Response:
    """The form; `dataset` of the address is chosen in it, with what is known to go with it, or `clone` fills
    it with a recipe."""
    known = form_choices(session)
    groups = _groups(known)
    values = filled(request.query_params)
    cloned = page_number(values.get("clone"))
    if cloned is not None:
        body = recipes.body_of(recipes.get_recipe(session, cloned).recipe)
        typed = with_model_names(session, _typed_of(groups, body), MODELS)
        page = _page(request, known, groups, typed, notice=_left_out(groups, body))
        return render(request, "recipes/new.html", page)
    wanted = page_number(values.get("dataset"))
    if wanted is None and known.datasets:
        wanted = int(known.datasets[0][0])
    return render(
        request, "recipes/new.html", _page(request, known, groups, _proposed(session, groups, wanted))
    )


@router.post("/recipes/preview", name="pages:recipe_preview")
def show_recipe_preview(
    request: Request, session: SessionDep, settings: SettingsDep, typed: TypedDep
) -> Response:
    """What the recipe that was typed would do."""
    preview = _preview(session, settings, _groups(form_choices(session)), typed)
    return render(request, "recipes/_preview.html", RecipePreviewFragment(preview))


@router.post("/recipes/new", name="pages:recipe_create")
def submit_recipe(request: Request, session: SessionDep, settings: SettingsDep, typed: TypedDep) -> Response:
    """Queues the recipe and leads to it, or shows the form again with what is wrong, or, where the preview
    was asked for, with that."""
    known = form_choices(session)
    groups = _groups(known)
    if first(typed, "action") == "preview":
        preview = _preview(session, settings, groups, typed)
        return render(request, "recipes/new.html", _page(request, known, groups, typed, preview=preview))
    try:
        with session.begin_nested():
            recipe = recipes.submit(session, settings, _body(groups, typed))
    except (AppError, EngineError) as error:
        page = _page(request, known, groups, typed, error=error)
        return render(request, "recipes/new.html", page, status=status_of(error))
    return see_other(url_of(request, "recipe", recipe_id=recipe.id))


# ------------------------------------------------------------------------------------------------- the form


def _groups(known: FormChoices) -> list[FieldGroup]:
    optimisation = fields.optimisation_group(RecipeBody)
    rate = field_of(RecipeBody, "optimisation.learning_rate")
    return [
        _compared(known),
        _masks(known),
        _measured(known),
        replace(optimisation, title="Optimisation of the trainings", fields=(rate, *optimisation.fields)),
        _scorer(),
        fields.lora_group(),
        fields.data_group(),
        fields.keeping_group(),
        _evaluation(),
    ]


def _compared(known: FormChoices) -> FieldGroup:
    compared = fields.method_choices(lambda method: method.in_recipes)
    densities = declared(TrainingNumbers, "supervision.density").words
    return FieldGroup(
        "What is compared",
        (
            field_of(RecipeBody, "dataset_id", kind="select", choices=(("", "choose one"), *known.datasets)),
            fields.model_field(RecipeBody, "model"),
            field_of(RecipeBody, "methods", choices=compared, hint=METHODS),
            field_of(RecipeBody, "densities", choices=[(name, densities[name]) for name in DENSITIES]),
            field_of(RecipeBody, "optimisation.steps", hint="Of every training: equal steps."),
            field_of(RecipeBody, "optimisation.batch_size"),
            field_of(RecipeBody, "seeds", kind="text", hint=SEEDS),
            field_of(RecipeBody, "union"),
        ),
        is_open=True,
    )


def _masks(known: FormChoices) -> FieldGroup:
    return FieldGroup(
        "Where masks come from",
        (
            field_of(RecipeBody, "scorer_dataset_id", kind="select", choices=known.datasets),
            fields.model_field(RecipeBody, "scorer"),
            fields.model_field(RecipeBody, "reward_model"),
            field_of(RecipeBody, "source", kind="select", choices=fields.source_choices()),
        ),
        is_open=True,
    )


def _measured(known: FormChoices) -> FieldGroup:
    return FieldGroup(
        "Evaluation",
        (
            field_of(RecipeBody, "suite_ids", choices=known.suites),
            field_of(RecipeBody, "held_out_dataset_id", kind="select", choices=known.datasets),
            field_of(RecipeBody, "name"),
        ),
        is_open=True,
    )


def _scorer() -> FieldGroup:
    return FieldGroup(
        "Training of the scorer",
        fields.fields_of(
            RecipeBody,
            "scorer_optimisation.steps",
            "scorer_optimisation.batch_size",
            "scorer_optimisation.learning_rate",
            "scorer_share",
            "scorer_method.beta",
            "scorer_method.rejected_clip",
            "scorer_method.sft_weight",
        ),
    )


def _evaluation() -> FieldGroup:
    parts = ("samples", "temperature", "top_p", "seed")
    return FieldGroup(
        "Sampling of the evaluations", fields.fields_of(RecipeBody, *(f"evaluation.{part}" for part in parts))
    )


def _proposed(session: Session, groups: Sequence[FieldGroup], dataset_id: int | None) -> dict[str, list[str]]:
    """What the form begins with."""
    typed = begun(groups) | {"optimisation.steps": [str(COMPARED_STEPS)]}
    dataset = None if dataset_id is None else find_dataset(session, dataset_id)
    if dataset is None:
        return typed
    for name, value in recipes.defaults(session, dataset).items():
        values = value if isinstance(value, list) else [value]
        typed[name] = [str(one) for one in values]
    return with_model_names(session, typed, MODELS)


def _typed_of(groups: Sequence[FieldGroup], body: RecipeBody) -> dict[str, list[str]]:
    """What must be typed to ask for this recipe, as far as the form has fields for it."""
    return typed_from(groups, body) | {"methods": [method.name for method in body.methods]}


def _left_out(groups: Sequence[FieldGroup], body: RecipeBody) -> str | None:
    """What the form cannot hold of a recipe that came by the API."""
    kept = _body(groups, _typed_of(groups, body)).model_dump(mode="json")
    lost = list(_differing(body.model_dump(mode="json"), kept))
    if not lost:
        return None
    return (
        f"The form has no fields for {', '.join(lost)}, which would be as they are by default; send the "
        "recipe through the API to keep them."
    )


def _differing(asked: Any, kept: Any, path: str = "") -> Iterator[str]:
    """The paths of what differs; methods are told by their names."""
    if isinstance(asked, dict) and isinstance(kept, dict):
        for name, value in asked.items():
            yield from _differing(value, kept.get(name), f"{path}.{name}" if path else name)
    elif path == "methods" and isinstance(kept, list):
        for one, other in zip(asked, kept, strict=True):
            yield from _differing(one, other, one["name"])
    elif asked != kept and path not in MODELS:
        yield path


def _body(groups: Sequence[FieldGroup], typed: Typed) -> RecipeBody:
    body = body_from(groups, typed)
    if "seeds" in body:
        body["seeds"] = words(body["seeds"])
    if "scorer_optimisation" in body:
        body["scorer_optimisation"].setdefault("steps", COMPARED_STEPS)
    fields.name_layers(body)
    if "scorer_method" in body:
        body["scorer_method"]["name"] = "scorer"
    return validated(RecipeBody, body, "body")


def _page(
    request: Request,
    known: FormChoices,
    groups: Sequence[FieldGroup],
    typed: Typed,
    *,
    error: AppError | EngineError | None = None,
    preview: RecipePreview | None = None,
    notice: str | None = None,
) -> RecipeForm:
    filled_in, faults = shown(groups, typed, problems_of(error))
    always_open = {group.title for group in groups if group.is_open}
    return RecipeForm(
        title="Compare granularities",
        section="recipes",
        choices=known,
        open_groups=[group for group in filled_in if group.title in always_open],
        folded_groups=[group for group in filled_in if group.title not in always_open],
        action=url_of(request, "recipe_create"),
        preview_url=url_of(request, "recipe_preview"),
        preview=preview,
        back_url=url_of(request, "recipes"),
        notice=notice,
        problem=None if error is None else headline_of(error, groups),
        faults=faults,
    )


def _preview(
    session: Session, settings: Settings, groups: Sequence[FieldGroup], typed: Typed
) -> RecipePreview | None:
    """None while too little is typed to say anything. Nothing stays of models that it looked at."""
    if not first(typed, "model") or not first(typed, "dataset_id"):
        return None
    nested = session.begin_nested()
    try:
        found = recipes.preview(session, settings, _body(groups, typed))
    except (AppError, EngineError) as error:
        return RecipePreview(problem=" ".join(faults_of(error, groups)))
    finally:
        nested.rollback()
    return RecipePreview(
        runs=tuple(counted(number, kind) for kind, number in count_by_kind(found.steps).items()),
        steps=tuple(
            PreviewStep(step_label(step.name), step.kind, ", ".join(map(step_label, step.needs)))
            for step in found.steps
        ),
        warnings=tuple(found.warnings),
    )
