"""What people say of stretches of responses, with undo, and how well the sources of a run agree with them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import Field
from sqlalchemy.orm import Session

from app.api.parts import lists
from app.api.parts.common import Id, View, door
from app.api.parts.lists import Listing, PagingDep
from app.dependencies import DatabaseDep, SessionDep
from app.problems import responses
from app.services.paging import Page
from app.services.pairs import labels
from app.services.pairs.labels import Label, Verdict
from engine.fields import StrictModel
from engine.types import Side


class PairLabels(View):
    """The labels of a pair that count, and whether the last action can be undone or done again."""

    data: list[Label]
    can_undo: bool
    can_redo: bool


class NewLabel(StrictModel):
    """A verdict on the characters [start, end) of a response."""

    side: Side
    """Which response."""
    start: int = Field(ge=0)
    """The first character, in code points of the response's text."""
    end: int = Field(ge=1)
    """Behind the last character."""
    verdict: Verdict | None
    """Whether these characters are right or wrong; null takes back what was labelled."""


class AgreementView(View):
    """How well low rewards of a source find what people called wrong."""

    source: str
    auroc: float | None
    """1 where every token that people called wrong has a lower reward than every one they called right; null
    while either is missing."""
    low: float | None
    """The 95% interval, which takes tokens as independent."""
    high: float | None
    wrong_tokens: int
    right_tokens: int


pairs_router = door("pairs")
datasets_router = door("datasets")
runs_router = door("runs")


@pairs_router.get("/{pair_id}/labels")
def read_labels(pair_id: Id, session: SessionDep) -> PairLabels:
    """The labels of a pair, chosen first, in the order of the text."""
    return _state(session, pair_id, labels.labels_of(session, pair_id))


@pairs_router.post("/{pair_id}/labels")
def add_label(pair_id: Id, body: NewLabel, session: SessionDep) -> PairLabels:
    """Says something of a stretch. What it covers of older labels goes, the rest of them stays."""
    return _state(
        session, pair_id, labels.paint(session, pair_id, body.side, body.start, body.end, body.verdict)
    )


@pairs_router.delete("/{pair_id}/labels/{label_id}")
def remove_label(pair_id: Id, label_id: Id, session: SessionDep) -> PairLabels:
    """Takes one label back."""
    return _state(session, pair_id, labels.remove(session, pair_id, label_id))


@pairs_router.post("/{pair_id}/labels/undo", responses=responses(409))
def undo(pair_id: Id, session: SessionDep) -> PairLabels:
    """Takes the last action on the pair's labels back."""
    return _state(session, pair_id, labels.undo(session, pair_id))


@pairs_router.post("/{pair_id}/labels/redo", responses=responses(409))
def redo(pair_id: Id, session: SessionDep) -> PairLabels:
    """Does what was undone last again."""
    return _state(session, pair_id, labels.redo(session, pair_id))


@datasets_router.get("/{dataset_id}/labels", response_model=Listing[Label], responses=lists.FILES)
def list_labels(
    dataset_id: Id,
    paging: PagingDep,
    database: DatabaseDep,
    verdict: Annotated[Verdict | None, Query(description="Only labels that say this.")] = None,
) -> Any:
    """The labels of a data set, newest first."""

    def fetch(session: Session, limit: int, cursor: str | None) -> Page[Label]:
        return labels.list_labels(session, dataset_id, verdict=verdict, limit=limit, cursor=cursor)

    return lists.answer(database, paging, fetch, Label, f"labels-{dataset_id}")


@runs_router.get("/{run_id}/agreement")
def read_agreement(run_id: Id, session: SessionDep) -> list[AgreementView]:
    """How well each source of a scoring run finds what people called wrong, over labelled tokens only."""
    return [
        AgreementView(
            source=one.source,
            auroc=one.found.value,
            low=one.found.low,
            high=one.found.high,
            wrong_tokens=one.found.wrong,
            right_tokens=one.found.right,
        )
        for one in labels.agreement(session, run_id)
    ]


def _state(session: Session, pair_id: int, found: list[Label]) -> PairLabels:
    history = labels.history_of(session, pair_id)
    return PairLabels(data=found, can_undo=history.can_undo, can_redo=history.can_redo)
