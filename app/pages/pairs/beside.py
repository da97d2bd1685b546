"""A pair under every source of its run, one below the other, and where the sources disagree.

Each source keeps its own scale of colours, rule and pivots, so that what is compared is what each would make
of the pair, not how large its numbers are. Knows no request and no data base.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from app.pages.parts import minimap
from app.pages.parts.looks import Look
from app.pages.parts.numbers import count, percent
from app.pages.parts.pair_view import (
    PairFigure,
    SidePanel,
    drawing_of,
    figures,
    side_panel,
    view_data,
)
from app.pages.parts.tracks import ends
from app.services.pairs.drawing import Drawing, disagreement
from app.services.scorings.maps import CutPair, SideView
from engine.types import SIDES, Side

MAX_TOKENS = 24_000
"""Tokens, of all sources together, that are written out; of more only the strips are shown."""


@dataclass(frozen=True, slots=True)
class Strip:
    """A response under one source, as a line."""

    label: str
    picture: Markup
    said: str
    """The numbers beside it."""


@dataclass(frozen=True, slots=True)
class SideStrips:
    """A response under all sources, on one axis of tokens."""

    side: Side
    strips: list[Strip]
    disagreement: Strip | None
    """Where one source's signal is good and another's bad; None with one source."""


@dataclass(frozen=True, slots=True)
class SourcePanel:
    """The pair under one source."""

    label: str
    address: str
    """The pair under this source alone."""
    is_shown: bool
    """Whether it is the one that the controls cut."""
    figures: list[PairFigure]
    scale: str
    """The numbers at the ends of its colours."""
    sides: list[SidePanel]
    """Empty where the responses are too long to be written out for every source."""
    data: Markup
    tokens_url: str


@dataclass(frozen=True, slots=True)
class Beside:
    """Everything that is compared."""

    strips: list[SideStrips]
    sources: list[SourcePanel]
    is_too_long: bool


@dataclass(frozen=True, slots=True)
class SourceAddresses:
    """Where the page of a source is, and where the numbers of its tokens are."""

    page: str
    tokens: str


def beside(
    views: Sequence[CutPair], shown: str, look: Look, addresses: Callable[[str], SourceAddresses]
) -> Beside:
    """The panels of a pair that several sources have scored."""
    drawn = [
        (view, drawing_of(view.sides, view.source.name, view.rule, look)) for view in views if view.sides
    ]
    tokens = sum(side.map.tokens for view, _ in drawn for side in view.sides)
    is_too_long = tokens > MAX_TOKENS
    return Beside(
        strips=[strips for side in SIDES if (strips := _strips(side, drawn)) is not None],
        sources=[
            _source_panel(view, drawing, shown, addresses(view.source.name), with_text=not is_too_long)
            for view, drawing in drawn
        ],
        is_too_long=is_too_long,
    )


def _source_panel(
    view: CutPair, drawing: Drawing, shown: str, addresses: SourceAddresses, *, with_text: bool
) -> SourcePanel:
    numbers = ends(drawing.colouring, drawing.track)
    return SourcePanel(
        label=view.source.label,
        address=addresses.page,
        is_shown=view.source.name == shown,
        figures=figures(view.agreement),
        scale=f"{numbers.low} to {numbers.high}",
        sides=[side_panel(side, drawing) for side in view.sides] if with_text else [],
        data=view_data(view.sides, drawing),
        tokens_url=addresses.tokens,
    )


def _strips(side: Side, drawn: Sequence[tuple[CutPair, Drawing]]) -> SideStrips | None:
    found = [(view, _of(side, view), drawing) for view, drawing in drawn]
    present = [(view, one, drawing) for view, one, drawing in found if one is not None]
    if not present:
        return None
    return SideStrips(
        side=side,
        strips=[_strip(view, one, drawing) for view, one, drawing in present],
        disagreement=_disagreement([one for _, one, _ in present]),
    )


def _of(side: Side, view: CutPair) -> SideView | None:
    return next((one for one in view.sides if one.side == side), None)


def _strip(view: CutPair, side: SideView, drawing: Drawing) -> Strip:
    drawn = drawing.sides[side.side]
    picture = minimap.Minimap(drawn.strip, drawn.ranks)
    said = f"kept {percent(side.kept)}, pivots {count(len(side.segmentation.pivots))}"
    return Strip(view.source.label, minimap.draw(picture, "across"), said)


def _disagreement(sides: Sequence[SideView]) -> Strip | None:
    if len(sides) < 2:
        return None
    bins, share = disagreement(sides)
    picture = minimap.draw(minimap.Minimap(bins), "across")
    return Strip("Sources disagree", picture, f"on {percent(share)} of the tokens")
