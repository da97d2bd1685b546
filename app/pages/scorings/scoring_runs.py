"""How runs of scorings and of the playground are shown: where their results are."""

from __future__ import annotations

from fastapi import Request

from app.db.tables import Run
from app.pages.parts.kind_pages import KIND_PAGES, KindPages, ResultLink
from app.pages.parts.rendering import url_of
from app.services.scorings.scores import PLAYGROUND
from app.services.scorings.sources import SCORING


def _scored_pairs(request: Request, run: Run) -> ResultLink | None:
    """The table of pairs, from the first stored rows on."""
    if run.dataset_id is None or not (run.job.resume_from or run.result):
        return None
    query = {"run": run.id, "sort": "conflict"}
    return ResultLink(
        url_of(request, "dataset", query, dataset_id=run.dataset_id), "Open the pairs, conflicts first"
    )


def _scored_text(request: Request, run: Run) -> ResultLink | None:
    if "lanes" not in (run.result or {}):
        return None
    return ResultLink(_playground(request, run), "Open it in the playground")


def _playground(request: Request, run: Run) -> str:
    return url_of(request, "playground_run", run_id=run.id)


KIND_PAGES.register(KindPages(name=SCORING, result=_scored_pairs))
KIND_PAGES.register(
    KindPages(name=PLAYGROUND, result=_scored_text, address=_playground, hidden_request=("pairs",))
)
