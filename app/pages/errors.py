"""A failure as a page: the same words that programs get as a document."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request, Response

from app.pages.parts.rendering import PageContext, render, url_of
from app.problems import ProblemResponse

SHOWN_FAULTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemPage(PageContext):
    """What went wrong, and what to do."""

    status: int
    detail: str
    faults: list[tuple[str, str]]
    """Where, and what."""
    request_id: str
    back_url: str
    back_name: str


PLACES = {
    "/runs": ("runs", "To the runs"),
    "/queue": ("queue", "To the queue"),
    "/recipes": ("recipes", "To the recipes"),
    "/models": ("models", "To the models"),
    "/suites": ("suites", "To the task suites"),
    "/playground": ("playground", "To the playground"),
}
"""Where a page that cannot be shown leads back to, by the beginning of its address; else to the data sets."""


def render_problem(request: Request, problem: ProblemResponse) -> Response:
    """The page of a failure, with its status and headers."""
    document = problem.document
    beginning = "/" + request.url.path.split("/")[1]
    place, name = PLACES.get(beginning, ("home", "To the data sets"))
    page = ProblemPage(
        title=document.title,
        status=document.status,
        detail=document.detail,
        faults=[(".".join(map(str, fault.loc)), fault.msg) for fault in document.errors[:SHOWN_FAULTS]],
        request_id=document.request_id,
        back_url=url_of(request, place),
        back_name=name,
    )
    return render(request, "errors/problem.html", page, status=document.status, headers=problem.headers)
