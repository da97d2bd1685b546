"""The page of an evaluation: its figures, beside what every run has."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request, Response
from sqlalchemy.orm import Session

from app.db.tables import Run
from app.pages.parts.evaluation_figures import FigureTable, figure_table
from app.pages.parts.kind_pages import KIND_PAGES, KindPages
from app.pages.parts.rendering import render, url_of
from app.pages.parts.run_links import LinkedRun, links_of
from app.pages.parts.run_page import RunPage, page_fields
from app.services.evaluations.evaluations import EVALUATION, figures_of
from app.services.runs.views import find_model


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPage(RunPage):
    """The whole page of an evaluation."""

    model_name: str
    model_url: str | None
    reference_name: str | None
    links: list[LinkedRun]
    figures: list[FigureTable]


def show_evaluation(request: Request, session: Session, run: Run) -> Response:
    """The whole page of an evaluation."""
    model, reference = run.request["model"], run.request.get("reference")
    known = find_model(session, model["id"])
    page = EvaluationPage(
        **page_fields(request, session, run),
        model_name=model["name"],
        model_url=url_of(request, "model", model_id=known.id) if known else None,
        reference_name=reference["name"] if reference else None,
        links=links_of(request, session, run),
        figures=figure_table(figures_of(run)),
    )
    return render(request, "evaluations/show.html", page)


KIND_PAGES.register(
    KindPages(
        name=EVALUATION,
        show=show_evaluation,
        form="evaluation_new",
        hidden_result=("figures",),
        is_compared=True,
    )
)
