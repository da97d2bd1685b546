"""Whether masking helped, in a line for each method: on the page of a recipe, and on that of its data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request
from sqlalchemy.orm import Session

from app.pages.parts.figures import cell_of
from app.pages.parts.rendering import url_of
from app.services.recipes import recipes
from app.services.recipes.tables import ResultCell, table
from app.services.recipes.verdicts import MaskingVerdict, verdicts
from engine.training.methods import METHODS

ANSWERS = {
    "helped": ("better", "masking helped"),
    "hurt": ("worse", "masking hurt"),
    "unclear": ("", "no clear difference"),
}
"""Class and words of each answer."""
AGAINST_UNION = {
    "helped": "better than the",
    "hurt": "worse than the",
    "unclear": "not clearly apart from the",
}
"""How the best masked density stands to the fair rival."""


@dataclass(frozen=True, slots=True)
class VerdictLine:
    """What masking came to with one method."""

    title: str
    """The method, with the suite where there are several."""
    direction: str
    """`better`, `worse` or ''."""
    answer: str
    figures: str
    """Each density with its success, the best masked one first."""


@dataclass(frozen=True, slots=True)
class MaskingPanel:
    """What the newest recipe on a data set says."""

    lines: list[VerdictLine]
    name: str
    address: str
    all_url: str


def title_of(method: str) -> str:
    """What people call a method; its name where it is not registered any more."""
    return METHODS[method].title if method in METHODS else method


def verdict_lines(found: Sequence[MaskingVerdict]) -> list[VerdictLine]:
    """A line for each verdict."""
    suites = {verdict.suite for verdict in found}
    return [_line(verdict, names_suite=len(suites) > 1) for verdict in found]


def masking_panel(request: Request, session: Session, dataset_id: int) -> MaskingPanel | None:
    """What the newest recipe on the data set that can tell says; None where none can."""
    for state in recipes.succeeded_on(session, dataset_id):
        if lines := verdict_lines(verdicts(table(state))):
            address = url_of(request, "recipe", recipe_id=state.recipe.id)
            return MaskingPanel(lines, state.recipe.name, address, url_of(request, "recipes"))
    return None


def _line(verdict: MaskingVerdict, *, names_suite: bool) -> VerdictLine:
    direction, answer = ANSWERS[verdict.answer]
    masked = ", ".join(f"{one.density} {_success(one.success)}" for one in verdict.masked)
    figures = f"{masked}, against {_success(verdict.sample)} sample-wise"
    if verdict.union is not None and verdict.against_union is not None:
        rival = f"{_success(verdict.union)} sample-wise with the scorer's data as well"
        figures += f"; {AGAINST_UNION[verdict.against_union]} {rival}"
    method = title_of(verdict.method)
    title = f"{method} on {verdict.suite}" if names_suite else method
    return VerdictLine(title, direction, answer, f"{figures}.")


def _success(cell: ResultCell) -> str:
    return cell_of("success", cell.value, cell.low, cell.high, cell.change).value
