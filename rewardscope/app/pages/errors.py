"""A failure as a page: the same words that programs get as a document."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request, Response

from rewardscope.app.pages.rendering import PageContext, render
from rewardscope.app.problems import Problem

SHOWN_FAULTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemPage(PageContext):
    """What went wrong, and what to do."""

    status: int
    detail: str
    faults: list[tuple[str, str]]
    """Where, and what."""
    request_id: str


def render_problem(request: Request, problem: Problem) -> Response:
    """The page of a failure, with its status and headers."""
    document = problem.document
    page = ProblemPage(
        title=document.title,
        status=document.status,
        detail=document.detail,
        faults=[(".".join(map(str, fault.loc)), fault.msg) for fault in document.errors[:SHOWN_FAULTS]],
        request_id=document.request_id,
    )
    return render(request, "errors/problem.html", page, status=document.status, headers=problem.headers)
