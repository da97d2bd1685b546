"""What people said of a pair, as its page shows it: every segment with its verdict, and marks in the text.

Knows no request and no data base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from app.pages.parts.highlight import TokenVerdict
from app.pages.parts.numbers import counted, shortened
from app.pages.parts.pair_view import script_json
from app.services.pairs.labels import VERDICTS, History, Label, Verdict, tokens_of
from app.services.scorings.maps import CutPair, SideView
from engine.types import Side

SIGNS: Mapping[Verdict, str] = {"right": "✔", "wrong": "✘", "unsure": "?"}
KEYS: Mapping[Verdict, str] = {"right": "r", "wrong": "w", "unsure": "u"}
FEW_SEGMENTS = 60
"""A pair with more segments than this lists them on a page of their own."""
MOST_ROWS = 1000
"""Rows a response on that page: beyond, the address of a token labels as well."""
SNIPPET = 90


@dataclass(frozen=True, slots=True)
class LabelItem:
    """A label, with its words."""

    side: Side
    sign: str
    verdict: Verdict
    text: str


@dataclass(frozen=True, slots=True)
class SayButton:
    """Says a verdict of a segment, or takes it back where it is said already."""

    verdict: Verdict
    sign: str
    value: str
    """What the form sends."""
    is_said: bool
    name: str
    """What the button does, for those who do not see where it stands."""


@dataclass(frozen=True, slots=True)
class SegmentLine:
    """A segment that can be labelled."""

    number: int
    text: str
    reward: float | None
    kept: bool
    said: str
    """The verdict, `in part` where only some of it has one, or nothing."""
    buttons: list[SayButton]


@dataclass(frozen=True, slots=True)
class SideLines:
    """The segments of a response, from the first on."""

    side: Side
    lines: list[SegmentLine]
    left_out: int


@dataclass(frozen=True, slots=True)
class LabelsPanel:
    """What people said of a pair, and the forms that say more."""

    action: str
    undo_url: str
    redo_url: str
    list_url: str
    can_undo: bool
    can_redo: bool
    summary: str
    sides: list[SideLines]
    """Empty where the pair has too many segments for its own page."""
    segments: str
    verdicts: list[tuple[Verdict, str, str]]
    """Verdict, sign and key of the buttons that speak of what is selected, or of the token with the focus."""
    data: Markup
    """Labels as tokens, for the marks in the text."""


@dataclass(frozen=True, slots=True)
class LabelAddresses:
    """Where the forms go."""

    say: str
    undo: str
    redo: str
    list: str


def labels_panel(
    view: CutPair,
    found: Sequence[Label],
    history: History,
    addresses: LabelAddresses,
    most: int = FEW_SEGMENTS,
) -> LabelsPanel:
    """The panel of a view; segments are listed where there are at most `most` of them."""
    segments = sum(len(side.segmentation.segments) for side in view.sides)
    lists = segments <= most or most > FEW_SEGMENTS
    return LabelsPanel(
        action=addresses.say,
        undo_url=addresses.undo,
        redo_url=addresses.redo,
        list_url=addresses.list,
        can_undo=history.can_undo,
        can_redo=history.can_redo,
        summary=_summary(found),
        sides=[_lines(side, _of(side.side, found), most) for side in view.sides] if lists else [],
        segments=counted(segments, "segment"),
        verdicts=[(verdict, SIGNS[verdict], KEYS[verdict]) for verdict in VERDICTS],
        data=_data(view, found),
    )


def items_of(found: Sequence[Label]) -> list[LabelItem]:
    """The labels as a list to read."""
    return [LabelItem(one.side, SIGNS[one.verdict], one.verdict, one.text) for one in found]


def said_of(view: CutPair, found: Sequence[Label]) -> dict[Side, list[TokenVerdict]]:
    """The labels as tokens of each side; a token belongs to a label that covers any character of it."""
    return {side.side: _said(side, _of(side.side, found)) for side in view.sides}


def _of(side: Side, found: Sequence[Label]) -> list[Label]:
    return [label for label in found if label.side == side]


def _said(side: SideView, found: Sequence[Label]) -> list[TokenVerdict]:
    stretches = [(label, tokens_of(label, side.map.offsets)) for label in found]
    return [TokenVerdict(*tokens, label.verdict) for label, tokens in stretches if tokens is not None]


def _summary(found: Sequence[Label]) -> str:
    if not found:
        return "no labels yet"
    numbers = {verdict: sum(label.verdict == verdict for label in found) for verdict in VERDICTS}
    return ", ".join(f"{SIGNS[verdict]} {number} {verdict}" for verdict, number in numbers.items() if number)


def _lines(side: SideView, found: Sequence[Label], most: int) -> SideLines:
    bounds = characters(side)
    shown = bounds[:MOST_ROWS] if most > FEW_SEGMENTS else bounds
    return SideLines(
        side.side,
        [_line(side, number, bound, found) for number, bound in enumerate(shown) if bound[0] < bound[1]],
        len(bounds) - len(shown),
    )


def characters(side: SideView) -> list[tuple[int, int]]:
    """The code points [start, end) of every segment, which together are the text as it is drawn: what lies
    between two tokens belongs to the first. An end of sequence alone has none."""
    starts = [int(side.map.offsets[segment.start, 0]) for segment in side.segmentation.segments]
    return list(pairwise([0, *starts[1:], len(side.text)])) if starts else []


def _line(side: SideView, number: int, bound: tuple[int, int], found: Sequence[Label]) -> SegmentLine:
    start, end = bound
    segment = side.segmentation.segments[number]
    said = _verdict(found, start, end)
    place = f"{side.side}:{start}:{end}"
    return SegmentLine(
        number=number + 1,
        text=shortened(side.text[start:end], SNIPPET) or "(space)",
        reward=segment.reward,
        kept=segment.kept,
        said=said,
        buttons=[
            SayButton(
                verdict=verdict,
                sign=SIGNS[verdict],
                value=f"{place}:{'clear' if said == verdict else verdict}",
                is_said=said == verdict,
                name=f"{verdict}: segment {number + 1} of {side.side}",
            )
            for verdict in VERDICTS
        ],
    )


def _verdict(found: Sequence[Label], start: int, end: int) -> str:
    """What was said of all characters [start, end); `in part` where some were left out or differ."""
    covering = [label for label in found if label.start < end and label.end > start]
    if not covering:
        return ""
    covered = sum(min(label.end, end) - max(label.start, start) for label in covering)
    verdicts = {label.verdict for label in covering}
    return verdicts.pop() if len(verdicts) == 1 and covered == end - start else "in part"


def _data(view: CutPair, found: Sequence[Label]) -> Markup:
    """[first token, end, verdict] of the labels of each side."""
    return script_json({side: [list(one) for one in said] for side, said in said_of(view, found).items()})
