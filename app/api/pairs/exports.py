"""A pair to take along: everything that its page shows, as JSON, or where its one HTML file is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query, Request
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from app.api.parts.common import Id, door
from app.dependencies import SessionDep
from app.errors import Invalid, Problem
from app.services.datasets import datasets
from app.services.pairs import labels, previews
from app.services.pairs.exports import pair_document
from app.services.scorings import maps
from engine.rules import SegmentationRule
from engine.sources import SourceName

router = door("pairs")


@router.get(
    "/{pair_id}/export",
    response_model=dict[str, Any],
    responses={307: {"description": "With `format=html`: the file's address."}},
)
def export_pair(
    request: Request,
    pair_id: Id,
    session: SessionDep,
    run: Annotated[int, Query(ge=1, le=2**63 - 1, description="The scoring run.")],
    source: Annotated[SourceName | None, Query(description="The run's first by default.")] = None,
    rule: Annotated[
        str | None, Query(max_length=4000, description="A rule as JSON text; the run's own by default.")
    ] = None,
    format: Annotated[Literal["json", "html"], Query(description="`html` opens offline.")] = "json",
) -> Any:
    """Tokens, tracks, rewards, segments, masks, labels and losses of a pair under one source and rule."""
    cut_by = None if rule is None else _rule(rule)
    view = maps.pair_view(session, pair_id, run_id=run, source=source, rule=cut_by)
    if format == "html":
        asked = {"format": "html", "run": run, "source": view.source.name}
        asked["rule"] = view.rule.model_dump_json()
        file = request.url_for("pages:pair_export", pair_id=pair_id).include_query_params(**asked)
        return RedirectResponse(f"{file.path}?{file.query}", 307)
    return pair_document(
        datasets.get_dataset(session, view.pair.dataset_id),
        view.pair,
        view,
        labels.labels_of(session, pair_id),
        previews.pair_preview(session, pair_id, run_id=run, source=view.source.name, shown=view.rule),
    )


def _rule(written: str) -> SegmentationRule:
    try:
        return SegmentationRule.model_validate_json(written)
    except ValidationError as error:
        first = str(error.errors(include_url=False)[0]["msg"])
        raise Invalid(f"`rule` is no rule: {first}.", errors=[Problem(("query", "rule"), first)]) from None
