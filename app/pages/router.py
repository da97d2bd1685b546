"""All pages, for the application to include. The gate before it has let only signed-in people through."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from app.pages import home, login, settings
from app.pages.datasets import datasets, explorer
from app.pages.evaluations import evaluations, task_suites
from app.pages.models import model, models
from app.pages.pairs import export as pair_export
from app.pages.pairs import labels, pairs
from app.pages.pairs import preview as pair_preview
from app.pages.parts.kind_pages import KIND_PAGES
from app.pages.parts.rendering import static_url
from app.pages.patterns import patterns
from app.pages.recipes import forms as recipe_forms
from app.pages.recipes import recipes
from app.pages.runs import compare, news, queue, run_list, runs
from app.pages.scorings import playground
from app.pages.trainings import token_maps, training_runs, trainings

router = APIRouter(include_in_schema=False)
for page in (
    home,
    datasets,
    explorer,
    pairs,
    labels,
    pair_preview,
    pair_export,
    compare,
    run_list,
    runs,
    training_runs,
    token_maps,
    queue,
    trainings,
    recipe_forms,
    recipes,
    evaluations,
    task_suites,
    models,
    model,
    playground,
    news,
    settings,
    login,
    patterns,
):
    router.include_router(page.router)

KIND_PAGES.fill("app.pages", nested=True)


@router.get("/favicon.ico", name="pages:icon")
def show_icon(request: Request) -> Response:
    """Where browsers look for an icon before they have read a page."""
    return RedirectResponse(static_url("icon.svg"), 301)
