"""All pages, for the application to include: whatever module of a room of pages has a `router`.

The gate before it has let only signed-in people through.
"""

from __future__ import annotations

import sys

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from app.pages.parts.kind_pages import KIND_PAGES
from app.pages.parts.rendering import static_url

router = APIRouter(include_in_schema=False)

KIND_PAGES.fill("app.pages", nested=True)
for name in sorted(name for name in sys.modules if name.startswith("app.pages.") and name != __name__):
    page = getattr(sys.modules[name], "router", None)
    if isinstance(page, APIRouter):
        router.include_router(page)


@router.get("/favicon.ico", name="pages:icon")
def show_icon(request: Request) -> Response:
    """Where browsers look for an icon before they have read a page."""
    return RedirectResponse(static_url("icon.svg"), 301)
