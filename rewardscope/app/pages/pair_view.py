"""What the pair page shows of a pair that a service has cut: marked text, numbers, legend, warnings.

Knows no request and no data base."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from markupsafe import Markup

from rewardscope.app.pages import curve
from rewardscope.app.pages.highlight import (
    LEVELS,
    Colouring,
    MarkedResponse,
    colouring_of,
    highlight,
)
from rewardscope.app.pages.numbers import MISSING, count, counted, percent, plain_number, signed
from rewardscope.app.services.maps import Agreement, PairView, SideView
from rewardscope.engine.types import SIGN, SegmentationRule, Side, Span

Colour = Literal["scaled", "raw"]
KEPT = "Share of the response's tokens in segments that agree with the preference; training sees only these."


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its name."""

    name: str
    value: str
    note: str = ""
    """A few words beside the number."""
    hint: str = ""
    """A sentence that explains it."""


@dataclass(frozen=True, slots=True)
class SidePanel:
    """One response as it is drawn."""

    side: Side
    sign: str
    summary: list[Figure]
    curve: Markup
    text: Markup
    is_empty: bool
    """Whether the response holds no text, which is said instead."""


@dataclass(frozen=True, slots=True)
class Legend:
    """The ramp of colours with the numbers at its ends."""

    low: str
    high: str
    levels: list[int]
    unit: str
    has_spans: bool
    has_disputes: bool
    has_missing: bool
    has_candidates: bool
    formula: str
    """How the shown numbers come from the rewards, with the run's numbers filled in."""


@dataclass(frozen=True, slots=True)
class ViewPanel:
    """The part of the page that a moved control draws anew."""

    sides: list[SidePanel]
    figures: list[Figure]
    warnings: list[str]
    legend: Legend | None
    """None while the run has not reached the pair."""
    data: Markup
    """Segments, baseline and scale of each side as JSON, for the pointer."""
    tokens_url: str
    mask_view: bool
    adopt_url: str | None = None
    """Where the shown rule becomes the run's own; None while it is, or while the run is still scored."""


def view_panel(
    view: PairView, colour: Colour, *, tokens_url: str, mask_view: bool, adopt_url: str | None = None
) -> ViewPanel:
    """The panel of a pair that a run has scored and a rule has cut."""
    values = [shown_values(side, view.source.name, colour) for side in view.sides]
    colouring = colouring_of(values)
    sides = [
        side_panel(side, shown, colouring, view.rule, colour)
        for side, shown in zip(view.sides, values, strict=True)
    ]
    return ViewPanel(
        sides=sides,
        figures=figures(view.agreement),
        warnings=warnings(view),
        legend=legend(view.sides, colouring, colour, view.rule.baseline) if view.sides else None,
        data=view_data(view.sides),
        tokens_url=tokens_url,
        mask_view=mask_view,
        adopt_url=adopt_url,
    )


def shown_values(side: SideView, source: str, colour: Colour) -> np.ndarray:
    """What is coloured: rewards as the source gave them, or less the baseline and in units of the scale."""
    return np.asarray(side.segmentation.scaled if colour == "scaled" else side.map.rewards[source])


def side_panel(
    side: SideView, values: np.ndarray, colouring: Colouring, rule: SegmentationRule, colour: Colour
) -> SidePanel:
    """One response, marked."""
    cut = side.segmentation
    marked = MarkedResponse(
        text=side.text,
        offsets=side.map.offsets,
        values=values,
        segments=cut.segments,
        candidates=cut.candidates.tolist(),
        spans=side.spans or (),
        eos=side.map.eos,
        eos_kept=bool(cut.mask[-1]) if len(cut.mask) else True,
    )
    picture = curve.Curve(
        values=values,
        reach=colouring.clip,
        segments=cut.segments,
        band=_band(side, rule, colour),
        wrong=_wrong(side),
        name=side.side,
    )
    return SidePanel(
        side=side.side,
        sign="preferred, +1" if SIGN[side.side] > 0 else "dispreferred, \N{MINUS SIGN}1",
        summary=summary(side),
        curve=curve.draw(picture),
        text=highlight(marked, colouring),
        is_empty=not side.text,
    )


def summary(side: SideView) -> list[Figure]:
    """The numbers in the head of a side."""
    cut = side.segmentation
    found = [
        Figure("reward", signed(side.total), hint="Reward of the whole response by this source."),
        Figure("kept", percent(side.kept), hint="Share of its tokens that the mask keeps: they count."),
        Figure("tokens", count(side.map.tokens), hint="Response tokens, the end of sequence included."),
        Figure("segments", count(len(cut.segments)), hint="Stretches between two pivots."),
        Figure("pivots", count(len(cut.pivots)), hint="Where the signal turns and a segment begins."),
    ]
    if cut.missing:
        missing = count(cut.missing)
        found.append(Figure("without reward", missing, hint="Tokens whose reward is missing: it is not 0."))
    return found


def figures(agreement: Agreement) -> list[Figure]:
    """The numbers of the pair."""
    return [
        Figure(
            "Margin",
            signed(agreement.margin),
            "chosen less rejected",
            "Reward of the chosen response less that of the rejected one; above 0 the source agrees with "
            "the preference.",
        ),
        Figure(
            "Conflict mass",
            percent(agreement.conflict),
            "of |reward| contradicts",
            "Share of |reward| that lies in segments against the preference: bad ones of the chosen "
            "response, good ones of the rejected one.",
        ),
        Figure("Kept, chosen", percent(agreement.kept_chosen), "of its tokens", KEPT),
        Figure("Kept, rejected", percent(agreement.kept_rejected), "of its tokens", KEPT),
    ]


def warnings(view: PairView) -> list[str]:
    """What a reader must know before trusting the picture."""
    told = []
    agreement = view.agreement
    if agreement.drifts:
        told.append(
            "The mask keeps more of the rejected response than of the chosen one: training could raise the "
            "margin by lowering everything. Anchor it with a supervised term, or choose another baseline."
        )
    for side in view.sides:
        told.extend(_side_warnings(side))
    if view.sides and not view.source.numbers.final:
        told.append("The run still goes on: baseline and scale are those of what is scored so far.")
    return told


def _side_warnings(side: SideView) -> list[str]:
    cut, told = side.segmentation, []
    if cut.fell_back:
        told.append(f"No segment of the {side.side} response agrees, so the whole response counts instead.")
    elif not cut.mask.any():
        told.append(f"Nothing of the {side.side} response is kept: training would not see it.")
    if cut.missing == side.map.tokens:
        told.append(f"No token of the {side.side} response has a reward from this source.")
    if side.map.truncated_prompt_tokens:
        cut_off = counted(side.map.truncated_prompt_tokens, "prompt token")
        told.append(f"{cut_off} did not fit the model's context before the {side.side} response.")
    return told


def legend(
    sides: Sequence[SideView], colouring: Colouring, colour: Colour, baseline: str | float = "otsu"
) -> Legend:
    """The ramp, with the clip at both ends: rewards beyond it take the end's colour."""
    return Legend(
        low=signed(-colouring.clip) if colouring.clip else MISSING,
        high=signed(colouring.clip) if colouring.clip else MISSING,
        levels=list(range(-LEVELS, LEVELS + 1)),
        unit="scaled reward" if colour == "scaled" else "reward",
        has_spans=any(side.spans for side in sides),
        has_disputes=any(segment.disputed for side in sides for segment in side.segmentation.segments),
        has_missing=any(side.segmentation.missing for side in sides),
        has_candidates=any(
            set(side.segmentation.candidates.tolist()) - set(side.segmentation.pivots.tolist())
            for side in sides
        ),
        formula=formula(sides, baseline),
    )


def view_data(sides: Sequence[SideView]) -> Markup:
    """What the pointer needs beside the stored lanes: [start, reward, state] of each segment, where state is
    1 for kept plus 2 for disputed."""
    data: dict[str, Any] = {"sides": {}}
    for side in sides:
        cut = side.segmentation
        data["sides"][side.side] = {
            "baseline": cut.baseline,
            "scale": cut.scale,
            "segments": [
                [segment.start, _rounded(segment.reward), segment.kept + 2 * segment.disputed]
                for segment in cut.segments
            ],
        }
    return script_json(data)


def token_lanes(view: PairView) -> dict[str, Mapping[str, list[float | None]]]:
    """The stored numbers of every token, by side and lane; null where a number is missing."""
    lanes: dict[str, Mapping[str, list[float | None]]] = {}
    for side in view.sides:
        stored = {
            "rewards": side.map.rewards[view.source.name],
            "logprobs": side.map.logprobs,
            "reference_logprobs": side.map.reference_logprobs,
            "entropies": side.map.entropies,
            "ranks": side.map.ranks,
        }
        lanes[side.side] = {
            name: [_rounded(value) for value in values.tolist()]
            for name, values in stored.items()
            if values is not None
        }
    return lanes


def script_json(data: Any) -> Markup:
    """JSON that may stand inside a <script>: it cannot close it."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))  # noqa: S704 -- escaped just here


def formula(sides: Sequence[SideView], baseline: str | float) -> str:
    """How scaled rewards come from rewards, for the reader who wants to check."""
    cut = sides[0].segmentation
    if baseline == "sequence_mean":
        return f"scaled reward = (reward less the mean of its response) / {plain_number(cut.scale, 4)}"
    return f"scaled reward = (reward {_minus(cut.baseline)}) / {plain_number(cut.scale, 4)}"


def _minus(baseline: float) -> str:
    sign = "+" if baseline < 0 else "\N{MINUS SIGN}"
    return f"{sign} {plain_number(abs(baseline), 4)}"


def _band(side: SideView, rule: SegmentationRule, colour: Colour) -> tuple[float, float] | None:
    if rule.segmenter.name != "hysteresis":
        return None
    delta, cut = rule.segmenter.delta, side.segmentation
    if colour == "scaled":
        return -delta, delta
    return cut.baseline - delta * cut.scale, cut.baseline + delta * cut.scale


def _wrong(side: SideView) -> np.ndarray | None:
    """True at the tokens that touch a span which is labelled as an error."""
    blamed: list[Span] = [span for span in side.spans or () if span.value is not None and span.value < 0]
    if not blamed:
        return None
    starts, ends = side.map.offsets[:, 0], side.map.offsets[:, 1]
    wrong = np.zeros(side.map.tokens, dtype=bool)
    for span in blamed:
        wrong |= (starts < span.end) & (ends > span.start)
    return wrong


def _rounded(value: float) -> float | int | None:
    if isinstance(value, int):
        return value
    return float(f"{value:.5g}") if value == value and abs(value) != float("inf") else None
