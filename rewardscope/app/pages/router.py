"""All pages, for the application to include. The gate before it has let only signed-in people through."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from rewardscope.app.pages import (
    compare,
    datasets,
    evaluations,
    explorer,
    home,
    labels,
    login,
    model,
    models,
    news,
    pair_export,
    pair_preview,
    pairs,
    patterns,
    playground,
    queue,
    recipe_forms,
    recipes,
    run_list,
    runs,
    settings,
    task_suites,
    token_maps,
    trainings,
)
from rewardscope.app.pages.rendering import static_url

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


@router.get("/favicon.ico", name="pages:icon")
def show_icon(request: Request) -> Response:
    """Where browsers look for an icon before they have read a page."""
    return RedirectResponse(static_url("icon.svg"), 301)
