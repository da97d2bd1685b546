"""Labels of segments: the forms of the pair page, all segments of a pair, all labels of a data set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import APIRouter, Form, Request, Response
from sqlalchemy.orm import Session

from app.dependencies import SessionDep
from app.errors import Conflict, Invalid
from app.pages.pairs.addresses import address_of, cut_pair
from app.pages.pairs.pair_labels import MOST_ROWS, SIGNS, LabelAddresses, LabelsPanel, labels_panel
from app.pages.parts.numbers import counted, shortened
from app.pages.parts.rendering import PageContext, render, see_other, url_of
from app.services.datasets import datasets
from app.services.pairs import labels
from app.services.pairs.labels import Label, Verdict
from app.services.scorings.maps import CutPair
from engine.types import Side

ROWS = 100
SNIPPET = 160
_SAID = re.compile(r"(chosen|rejected):(\d{1,9}):(\d{1,9}):(right|wrong|unsure|clear)")

router = APIRouter()


@dataclass(frozen=True, slots=True)
class LabelsFragment:
    """What is drawn anew after a label."""

    labels: LabelsPanel


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLabelsPage(PageContext):
    """Every segment of a pair, with its verdict."""

    key: str
    pair_url: str
    labels: LabelsPanel


@dataclass(frozen=True, slots=True)
class LabelRow:
    """A label of a data set."""

    key: str
    address: str
    side: str
    verdict: str
    sign: str
    text: str
    created_at: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetLabelsPage(PageContext):
    """All labels of a data set, newest first."""

    dataset_name: str
    dataset_url: str
    summary: str
    rows: list[LabelRow]
    next_url: str | None
    first_url: str | None
    files: list[tuple[str, str]]
    """Format and address of the labels as files."""


@router.post("/pairs/{pair_id:int}/labels", name="pages:pair_say")
def say(request: Request, session: SessionDep, pair_id: int, say: Annotated[str, Form()] = "") -> Response:
    """Labels a stretch, or takes back what was said of it."""
    match = _SAID.fullmatch(say)
    if match is None:
        raise Invalid("The form names no stretch of a response; reload the page and label it again.")
    side, start, end, word = match.groups()
    verdict = None if word == "clear" else cast(Verdict, word)
    labels.paint(session, pair_id, cast(Side, side), int(start), int(end), verdict)
    return _after(request, session, pair_id)


@router.post("/pairs/{pair_id:int}/labels/undo", name="pages:pair_undo")
def undo(request: Request, session: SessionDep, pair_id: int) -> Response:
    """Takes the last action on the pair's labels back; nothing happens where there is none."""
    with suppress(Conflict):  # another tab was faster; the answer shows how it is now
        labels.undo(session, pair_id)
    return _after(request, session, pair_id)


@router.post("/pairs/{pair_id:int}/labels/redo", name="pages:pair_redo")
def redo(request: Request, session: SessionDep, pair_id: int) -> Response:
    """Does what was undone last again; nothing happens where there is none."""
    with suppress(Conflict):  # another tab was faster; the answer shows how it is now
        labels.redo(session, pair_id)
    return _after(request, session, pair_id)


@router.get("/pairs/{pair_id:int}/labels", name="pages:pair_labels")
def show_pair_labels(request: Request, session: SessionDep, pair_id: int) -> Response:
    """Every segment of a pair, to be labelled one by one."""
    address = address_of(request)
    view = cut_pair(session, pair_id, address)
    page = PairLabelsPage(
        title=f"Labels of {view.pair.key}",
        section="home",
        key=view.pair.key,
        pair_url=url_of(request, "pair", address.values, pair_id=pair_id),
        labels=panel_of(request, session, view, address.values, 2 * MOST_ROWS),
    )
    return render(request, "pairs/labels.html", page)


@router.get("/datasets/{dataset_id:int}/labels", name="pages:dataset_labels")
def show_dataset_labels(request: Request, session: SessionDep, dataset_id: int) -> Response:
    """The labels of a data set, each with a link to its pair."""
    dataset = datasets.get_dataset(session, dataset_id)
    cursor = request.query_params.get("cursor") or None
    found = labels.list_labels(session, dataset_id, limit=ROWS, cursor=cursor)
    counts = labels.counts_of(session, dataset_id)
    here = url_of(request, "dataset_labels", dataset_id=dataset_id)
    follow = {"cursor": found.next_cursor}
    page = DatasetLabelsPage(
        title=f"Labels of {dataset.name}",
        section="home",
        dataset_name=dataset.name,
        dataset_url=url_of(request, "dataset", dataset_id=dataset_id),
        summary=f"{counted(counts.total, 'label')} on {counted(counts.pairs, 'pair')}: {counts.right} right, "
        f"{counts.wrong} wrong, {counts.unsure} unsure",
        rows=[_row(request, label) for label in found.items],
        next_url=url_of(request, "dataset_labels", follow, dataset_id=dataset_id)
        if found.next_cursor
        else None,
        first_url=here if cursor else None,
        files=[
            (kind, f"{request.app.url_path_for('list_labels', dataset_id=dataset_id)}?format={kind}")
            for kind in ("jsonl", "csv")
        ],
    )
    return render(request, "datasets/labels.html", page)


def panel_of(
    request: Request,
    session: Session,
    view: CutPair,
    values: Mapping[str, Any],
    most: int | None = None,
    found: list[Label] | None = None,
) -> LabelsPanel:
    """The panel of a view whose address says `values`."""
    pair_id = view.pair.id

    def address(name: str) -> str:
        return url_of(request, name, values, pair_id=pair_id)

    addresses = LabelAddresses(
        address("pair_say"), address("pair_undo"), address("pair_redo"), address("pair_labels")
    )
    found = labels.labels_of(session, pair_id) if found is None else found
    history = labels.history_of(session, pair_id)
    return labels_panel(view, found, history, addresses, **({} if most is None else {"most": most}))


def _after(request: Request, session: Session, pair_id: int) -> Response:
    """The panel alone where a script asked; else the page that the form stands on."""
    if request.headers.get("hx-request"):
        address = address_of(request)
        view = cut_pair(session, pair_id, address)
        fragment = LabelsFragment(panel_of(request, session, view, address.values))
        return render(request, "pairs/_labels.html", fragment)
    came_from = request.headers.get("referer", "").partition("?")[0].endswith("/labels")
    page = "pair_labels" if came_from else "pair"
    return see_other(url_of(request, page, dict(request.query_params), pair_id=pair_id))


def _row(request: Request, label: Label) -> LabelRow:
    return LabelRow(
        key=label.pair_key,
        address=url_of(request, "pair", pair_id=label.pair_id),
        side=label.side,
        verdict=label.verdict,
        sign=SIGNS[label.verdict],
        text=shortened(label.text, SNIPPET),
        created_at=label.created_at,
    )
