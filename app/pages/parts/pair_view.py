"""What the pair page shows of a pair that a service has cut: marked text, numbers, legend, warnings.

Knows no request and no data base."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from markupsafe import Markup

from app.pages.parts import curve, minimap
from app.pages.parts.highlight import LEVELS, Colouring, MarkedResponse, Said, colouring_of, highlight
from app.pages.parts.lanes import LANES, LaneName, ends, lane_values, lanes_of, ramp
from app.pages.parts.looks import Colour, Look
from app.pages.parts.numbers import count, counted, percent, plain_number, signed
from app.services.scorings.maps import Agreement, PairView, SideView
from engine.alignment import differences
from engine.rules import SegmentationRule
from engine.segmentation.segmenters.hysteresis import Hysteresis, reaches
from engine.segmentation.smoothing import smooth
from engine.training.methods.dpo import Dpo
from engine.training.preview import dpo_preview, seen_side
from engine.types import SIGN, Side, Span, ranks_to_null

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
    minimap: Markup = field(default_factory=Markup)


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
    has_refused: bool
    """Whether a candidate did not clear the band."""
    band: str
    """The threshold that a candidate must clear, with its sign; empty where the segmenter has none."""
    differs: str
    """What is said of the tokens that differ; empty where the sides are not compared."""
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
    lane: LaneName = "reward"
    is_sequential: bool = False
    """Whether colours tell sizes only."""
    link: str = ""
    """The address that gives exactly this view, whatever becomes of the run's own rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """What the sides of a pair share when they are drawn."""

    source: str
    rule: SegmentationRule
    colouring: Colouring
    colour: Colour = "scaled"
    lane: LaneName = "reward"
    refused: Mapping[Side, Mapping[int, float]] = field(default_factory=dict)
    """The candidates of each side that stayed within the band, and how far each went."""
    differing: Mapping[Side, np.ndarray] = field(default_factory=dict)
    """True at the tokens that the other side lacks; empty where the sides are not compared."""
    said: Mapping[Side, Sequence[Said]] = field(default_factory=dict)
    """What people said of each side."""
    pushes: Mapping[Side, np.ndarray] = field(default_factory=dict)
    """Where training would move the log-probability of each token; empty in other lanes than `gradient`."""


def view_panel(
    view: PairView,
    look: Look,
    *,
    tokens_url: str,
    adopt_url: str | None = None,
    link: str = "",
    said: Mapping[Side, Sequence[Said]] | None = None,
) -> ViewPanel:
    """The panel of a pair that a run has scored and a rule has cut."""
    drawing = replace(drawing_of(view.sides, view.source.name, view.rule, look), said=said or {})
    return ViewPanel(
        sides=[side_panel(side, drawing) for side in view.sides],
        figures=figures(view.agreement),
        warnings=[*warnings(view), *_not_compared(look, drawing, view.sides)],
        legend=legend(view.sides, drawing) if view.sides else None,
        data=view_data(view.sides, drawing),
        tokens_url=tokens_url,
        mask_view=look.mask_view,
        adopt_url=adopt_url,
        lane=drawing.lane,
        is_sequential=drawing.colouring.is_sequential,
        link=link,
    )


def drawing_of(sides: Sequence[SideView], source: str, rule: SegmentationRule, look: Look) -> Drawing:
    """How a pair is drawn: a lane that the run did not store gives way to the reward."""
    lane = look.lane
    if lane != "reward" and lane not in lanes_of(side.map for side in sides):
        lane = "reward"
    pushes = pushes_of(sides) if lane == "gradient" else {}
    values = [pushes.get(side.side, shown_values(side, source, lane, look.colour)) for side in sides]
    return Drawing(
        source=source,
        rule=rule,
        colouring=colouring_of(values, LANES[lane].scale),
        colour=look.colour,
        lane=lane,
        refused={side.side: refused_candidates(side, rule) for side in sides},
        differing=differing_tokens(sides) if look.diff else {},
        pushes=pushes,
    )


def pushes_of(sides: Sequence[SideView]) -> dict[Side, np.ndarray]:
    """Where a step of DPO, as trainings do it by default, would move each log-probability under the masks of
    both sides; empty where the run lacks what that takes."""
    seen = {side.side: seen_side(side.map, side.segmentation) for side in sides}
    chosen, rejected = seen.get("chosen"), seen.get("rejected")
    if chosen is None or rejected is None or chosen.reference_logprobs is None:
        return {}
    return {side: -lane for side, lane in dpo_preview(chosen, rejected, Dpo()).gradients.items()}


def differing_tokens(sides: Sequence[SideView]) -> dict[Side, np.ndarray]:
    """The tokens of each side that the other lacks; empty where there is no other, or both are too long."""
    if len(sides) != 2:
        return {}
    found = differences(sides[0].map.token_ids, sides[1].map.token_ids)
    return {} if found is None else {sides[0].side: found.left, sides[1].side: found.right}


def shown_values(side: SideView, source: str, lane: LaneName, colour: Colour) -> np.ndarray:
    """What is coloured: a stored lane; of rewards those that the source gave, or less the baseline and in
    units of the scale."""
    stored = None if lane == "reward" else lane_values(side.map, lane)
    if stored is not None:
        return stored
    return np.asarray(side.segmentation.scaled if colour == "scaled" else side.map.rewards[source])


def drawn_values(side: SideView, drawing: Drawing) -> np.ndarray:
    """What is coloured of a side."""
    stored = shown_values(side, drawing.source, drawing.lane, drawing.colour)
    return drawing.pushes.get(side.side, stored)


def side_panel(side: SideView, drawing: Drawing) -> SidePanel:
    """One response, marked."""
    cut, colouring = side.segmentation, drawing.colouring
    values = drawn_values(side, drawing)
    differing = drawing.differing.get(side.side)
    marked = MarkedResponse(
        text=side.text,
        offsets=side.map.offsets,
        values=values,
        segments=cut.segments,
        candidates=cut.candidates.tolist(),
        refused=list(drawing.refused.get(side.side, ())),
        differing=differing,
        spans=side.spans or (),
        said=drawing.said.get(side.side, ()),
        eos=side.map.eos,
        eos_kept=bool(cut.mask[-1]) if len(cut.mask) else True,
    )
    picture = curve.Curve(
        values=colouring.shares(values),
        reach=1.0 if colouring.clip > 0 else 0.0,
        segments=cut.segments,
        band=_band(side, drawing),
        wrong=_wrong(side),
        name=side.side,
        lane="rewards" if drawing.lane == "reward" else LANES[drawing.lane].label,
        is_sequential=colouring.is_sequential,
        end_kept=end_kept(side),
    )
    return SidePanel(
        side=side.side,
        sign="preferred, +1" if SIGN[side.side] > 0 else "dispreferred, \N{MINUS SIGN}1",
        summary=summary(side),
        curve=curve.draw(picture),
        text=highlight(marked, colouring),
        is_empty=not side.text,
        minimap=minimap.draw(
            minimap.Minimap(colouring.shares(values), cut.segments, differing, end_kept=end_kept(side))
        ),
    )


def end_kept(side: SideView) -> bool:
    """Whether the end of sequence counts although its segment does not."""
    cut = side.segmentation
    return side.map.eos is not None and bool(cut.mask[-1]) and not cut.segments[-1].kept


def refused_candidates(side: SideView, rule: SegmentationRule) -> dict[int, float]:
    """Zero crossings that stayed within the band, and how far each went; none where a rule has no band."""
    cut, segmenter = side.segmentation, rule.segmenter
    if not isinstance(segmenter, Hysteresis):
        return {}
    signal: np.ndarray = cut.scaled
    if segmenter.smoothing != "none":
        # In the types that segmentation has compiled it for.
        row = np.array([0, len(cut.scaled)], dtype=np.int64)
        signal = smooth(cut.scaled.astype(np.float64), row, segmenter.smoothing)
    reached = reaches(signal, cut.candidates)
    within = np.abs(reached) <= np.float32(segmenter.delta)
    pivots = set(cut.pivots.tolist())
    found = zip(cut.candidates[within].tolist(), reached[within].tolist(), strict=True)
    return {position: reach for position, reach in found if position not in pivots}


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


def legend(sides: Sequence[SideView], drawing: Drawing) -> Legend:
    """The ramp, with the clip at its ends: values beyond it take the end's colour."""
    numbers = ends(drawing.colouring, drawing.lane)
    rule, lane = drawing.rule, LANES[drawing.lane]
    is_scaled = drawing.lane == "reward" and drawing.colour == "scaled"
    refused = [drawing.refused[side.side].keys() for side in sides]
    crossed = [
        set(side.segmentation.candidates.tolist()) - set(side.segmentation.pivots.tolist()) for side in sides
    ]
    return Legend(
        low=numbers.low,
        high=numbers.high,
        levels=list(ramp(drawing.colouring, LEVELS)),
        unit=_scaled_unit(sides, rule.baseline) if is_scaled else lane.unit,
        has_spans=any(side.spans for side in sides),
        has_disputes=any(segment.disputed for side in sides for segment in side.segmentation.segments),
        has_missing=any(side.segmentation.missing for side in sides),
        has_candidates=any(found - out for found, out in zip(crossed, refused, strict=True)),
        has_refused=any(refused),
        band=f"±{rule.segmenter.delta:g}" if isinstance(rule.segmenter, Hysteresis) else "",
        differs=_differs(sides, drawing),
        formula=formula(sides, rule.baseline) if drawing.lane == "reward" else lane.hint.rstrip("."),
    )


def _differs(sides: Sequence[SideView], drawing: Drawing) -> str:
    """How many tokens of each side the other lacks."""
    if not drawing.differing:
        return ""
    shares = ", ".join(
        f"{percent(float(drawing.differing[side.side].mean()) if side.map.tokens else 0.0)} of {side.side}"
        for side in sides
    )
    return f"not in the other response: {shares}"


def _not_compared(look: Look, drawing: Drawing, sides: Sequence[SideView]) -> list[str]:
    if not look.diff or drawing.differing or not sides:
        return []
    if len(sides) == 1:
        return ["There is one response only, so there is nothing that it could differ from."]
    return ["The responses are too long to be aligned token by token, so what differs is not marked."]


def view_data(sides: Sequence[SideView], drawing: Drawing) -> Markup:
    """What the pointer needs beside the stored lanes: [start, reward, state] of each segment, where state is
    1 for kept plus 2 for disputed; the band, and where the signal is smoothed, how far candidates went."""
    segmenter = drawing.rule.segmenter
    data: dict[str, Any] = {"sides": {}}
    if isinstance(segmenter, Hysteresis):
        data["delta"] = segmenter.delta
    for side in sides:
        cut = side.segmentation
        rewards = rounded_list(np.array([segment.reward for segment in cut.segments]), 3)
        data["sides"][side.side] = found = {
            "baseline": cut.baseline,
            "scale": cut.scale,
            "segments": [
                [segment.start, reward, segment.kept + 2 * segment.disputed]
                for segment, reward in zip(cut.segments, rewards, strict=True)
            ],
        }
        if end_kept(side):
            found["end"] = True
        if side.side in drawing.pushes:
            found["pushes"] = rounded_list(drawing.pushes[side.side], 3)
        if isinstance(segmenter, Hysteresis) and segmenter.smoothing != "none":
            refused = drawing.refused[side.side]
            found["reaches"] = {position: _rounded(reach, 3) for position, reach in refused.items()}
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
            name: rounded_list(values) for name, values in stored.items() if values is not None
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


def _scaled_unit(sides: Sequence[SideView], baseline: str | float) -> str:
    """What colours tell of scaled rewards: a negative reward may well lie above its baseline."""
    if baseline == "sequence_mean":
        return "scaled reward, above or below the mean of its response"
    zero = sides[0].segmentation.baseline
    return f"scaled reward, above or below the baseline of {signed(zero)}" if zero else "scaled reward"


def _minus(baseline: float) -> str:
    sign = "+" if baseline < 0 else "\N{MINUS SIGN}"
    return f"{sign} {plain_number(abs(baseline), 4)}"


def _band(side: SideView, drawing: Drawing) -> tuple[float, float] | None:
    """The dead band as shares of the clip; None where the curve shows something else than rewards."""
    segmenter, clip = drawing.rule.segmenter, drawing.colouring.clip
    if not isinstance(segmenter, Hysteresis) or drawing.lane != "reward" or clip <= 0:
        return None
    delta, cut = segmenter.delta, side.segmentation
    if drawing.colour == "scaled":
        return -delta / clip, delta / clip
    return (cut.baseline - delta * cut.scale) / clip, (cut.baseline + delta * cut.scale) / clip


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


def rounded_list(values: np.ndarray, digits: int = 5) -> list[float | int | None]:
    """Numbers of a lane with so many significant digits, as JSON has them: null where one is missing."""
    if values.dtype.kind in "iu":
        return list(ranks_to_null(values))
    exact = values.astype(np.float64)
    sizes = np.abs(exact)
    # Within these the powers of ten are exact, so that each number is the one nearest to its decimals.
    common = (sizes > 1e-15) & (sizes < 1e15)
    known = np.where(common, exact, 1.0)
    places = digits - 1 - np.floor(np.log10(np.abs(known))).astype(int)
    up, down = 10.0 ** np.maximum(places, 0), 10.0 ** np.maximum(-places, 0)
    rounded: list[float | int | None] = (np.rint(known * up / down) * down / up).tolist()
    for position in np.flatnonzero(~common).tolist():
        rounded[position] = _rounded(float(exact[position]), digits)
    return rounded


def _rounded(value: float, digits: int = 5) -> float | int | None:
    if isinstance(value, int):
        return value
    return float(f"{value:.{digits}g}") if value == value and abs(value) != float("inf") else None
