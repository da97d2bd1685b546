"""A pair to take along: as JSON, and as one HTML file that opens offline and asks for nothing."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Literal

from fastapi import APIRouter, Request, Response
from markupsafe import Markup
from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.dependencies import SessionDep
from app.errors import Invalid
from app.pages.pairs.addresses import PairAddress, address_of, cut_pair
from app.pages.pairs.pair_labels import LabelItem, items_of, said_of
from app.pages.pairs.preview import PreviewPanel, preview_panel
from app.pages.parts.numbers import MISSING, moment, signed
from app.pages.parts.pair_view import ViewPanel, view_panel
from app.pages.parts.prompts import Turn, turns_of
from app.pages.parts.rendering import ENVIRONMENT, WEB
from app.services.datasets import datasets
from app.services.pairs import labels, previews
from app.services.pairs.exports import pair_document
from app.services.scorings import maps
from app.services.scorings.maps import CutPair, SideView
from engine.formats.maps import token_texts
from engine.rules import SegmentationRule

Format = Literal["json", "html"]
SHEETS = (
    "parts/theme.css",
    "parts/base.css",
    "parts/response.css",
    "pairs/labels.css",
    "pairs/standalone.css",
)
MEDIA_TYPES: dict[Format, str] = {"json": "application/json", "html": "text/html; charset=utf-8"}

router = APIRouter()


@dataclass(frozen=True, slots=True)
class TokenTable:
    """The numbers of every token of a response, which the page shows only on hover."""

    side: str
    headings: list[str]
    rows: Markup


@dataclass(frozen=True, slots=True)
class Standalone:
    """The page in one file."""

    title: str
    dataset: str
    told: list[tuple[str, str]]
    """What made it: run, models, source, rule, when."""
    prompt: list[Turn]
    view: ViewPanel
    said: list[LabelItem]
    preview: PreviewPanel
    tables: list[TokenTable]
    css: Markup


@router.get("/pairs/{pair_id:int}/export", name="pages:pair_export")
def export(request: Request, session: SessionDep, pair_id: int, format: Format = "json") -> Response:
    """The pair as a file, as the address shows it."""
    address = address_of(request)
    view = _cut(session, pair_id, address)
    dataset = datasets.get_dataset(session, view.pair.dataset_id)
    found = labels.labels_of(session, pair_id)
    preview = previews.pair_preview(
        session, pair_id, run_id=view.run.id, source=view.source.name, shown=view.rule
    )
    if format == "json":
        document = pair_document(dataset, view.pair, view, found, preview)
        body = json.dumps(document, ensure_ascii=False, allow_nan=False)
    else:
        page = Standalone(
            title=view.pair.key,
            dataset=dataset.name,
            told=_told(view),
            prompt=turns_of(view.pair),
            view=view_panel(view, address.look, tokens_url="", said=said_of(view, found)),
            said=items_of(found),
            preview=preview_panel(preview),
            tables=[token_table(side, view) for side in view.sides],
            css=stylesheet(),
        )
        body = ENVIRONMENT.get_template("pairs/_standalone.html").render(page=page)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{dataset.name}-{view.pair.key}").strip("-.")[:120] or "pair"
    headers = {"Content-Disposition": f'attachment; filename="{name}.{format}"', "Cache-Control": "no-store"}
    return Response(body, media_type=MEDIA_TYPES[format], headers=headers)


def _rank(rank: int) -> str:
    return MISSING if rank < 0 else str(rank)


def token_table(side: SideView, view: CutPair) -> TokenTable:
    """Every token with its numbers. One string, since a template that loops over tokens is slow."""
    stored, cut = side.map, side.segmentation
    tracks = {
        "log p": stored.logprobs,
        "log p reference": stored.reference_logprobs,
        "entropy": stored.entropies,
        "rank": stored.ranks,
        **{f"reward, {name}": track for name, track in stored.rewards.items()},
        f"scaled, {view.source.name}": cut.scaled,
    }
    there = {name: track.tolist() for name, track in tracks.items() if track is not None}
    texts = token_texts(side.text, stored.offsets, stored.eos)
    columns = [
        [_rank(one) if name == "rank" else (signed(one, 4) if one == one else MISSING) for one in track]
        for name, track in there.items()
    ]
    rows = [
        f"<tr><td class=num>{position}</td><td dir=auto><code>{html.escape(text)}</code></td>"
        + "".join(f"<td class=num>{column[position]}</td>" for column in columns)
        + f"<td>{'kept ✓' if kept else 'dropped ✕'}</td></tr>"
        for position, (text, kept) in enumerate(zip(texts, cut.mask.tolist(), strict=True))
    ]
    return TokenTable(
        side=side.side,
        headings=list(there),
        rows=Markup("".join(rows)),  # noqa: S704 -- numbers, and texts that went through escape
    )


@cache
def stylesheet() -> Markup:
    """All style sheets of the page as one text."""
    text = "\n".join((WEB / "static" / sheet).read_text() for sheet in SHEETS)
    assert "</" not in text, "nothing in a style sheet may close its element"
    return Markup(text)  # noqa: S704 -- our own files


def _cut(session: Session, pair_id: int, address: PairAddress) -> CutPair:
    """The pair of the address; a whole rule in it, as the API writes it, goes before single fields."""
    view = cut_pair(session, pair_id, address)
    written = address.values.get("rule")
    if written is None:
        return view
    try:
        rule = SegmentationRule.model_validate_json(written)
    except ValidationError as error:
        raise Invalid(f"`rule` is no rule: {error.errors(include_url=False)[0]['msg']}.") from None
    return maps.pair_view(session, pair_id, run_id=view.run.id, source=view.source.name, rule=rule)


def _told(view: CutPair) -> list[tuple[str, str]]:
    models = [
        (role.replace("_", " ").capitalize(), str(model["name"]))
        for role in ("policy", "reference", "reward_model")
        if (model := view.run.request.get(role))
    ]
    rule = view.rule
    segmenter = ", ".join(
        str(value) if name == "name" else f"{name} {value}"
        for name, value in rule.segmenter.model_dump().items()
    )
    return [
        ("Run", f"{view.run.id}: {view.run.name}"),
        *models,
        ("Source", view.source.label),
        ("Segmenter", segmenter),
        ("Baseline and scale", f"{rule.baseline}, {rule.scale}"),
        ("Exported", moment(datetime.now(UTC))),
    ]
