"""What a run belongs to or came from, as links: its recipe, the run that it was cloned from, its masks."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request
from sqlalchemy.orm import Session

from app.db.tables import Run
from app.pages.parts.rendering import url_of
from app.services.runs.views import find_recipe, find_run


@dataclass(frozen=True, slots=True)
class LinkedRun:
    """Something that the run belongs to, and where it is."""

    label: str
    name: str
    address: str


def links_of(request: Request, session: Session, run: Run) -> list[LinkedRun]:
    """The recipe that the run is a step of, the run whose request it began with, the scoring of its masks."""
    links = []
    if run.recipe_id is not None and (recipe := find_recipe(session, run.recipe_id)) is not None:
        address = url_of(request, "recipe", recipe_id=recipe.id)
        links.append(LinkedRun("step of the recipe", recipe.name, address))
    if run.cloned_from is not None and (cloned := find_run(session, run.cloned_from)) is not None:
        links.append(LinkedRun("cloned from", cloned.name, url_of(request, "run", run_id=cloned.id)))
    scored = run.request.get("scoring_run")
    if scored and (scoring := find_run(session, scored["id"])) is not None:
        links.append(LinkedRun("masks from", scoring.name, url_of(request, "run", run_id=scoring.id)))
    return links
