"""What the pair page shows of a pair that a service has cut: marked text, numbers, legend, warnings.

Knows no request and no data base."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from app.pages.parts import curve, minimap
from app.pages.parts.highlight import MarkedResponse, TokenVerdict, highlight
from app.pages.parts.looks import Look
from app.pages.parts.numbers import count, counted, percent, plain_number, signed
from app.pages.parts.tracks import TRACKS, ends, ramp
from app.services.pairs import drawing as drawings
from app.services.pairs.drawing import LEVELS, Drawing, TrackName
from app.services.scorings.maps import Agreement, CutPair, SideView
from engine.rules import SegmentationRule
from engine.types import SIGN, Side

KEPT = "Share of the response's tokens in segments that agree with the preference; training sees only these."


@dataclass(frozen=True, slots=True)
class PairFigure:
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
    summary: list[PairFigure]
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
    figures: list[PairFigure]
    warnings: list[str]
    legend: Legend | None
    """None while the run has not reached the pair."""
    data: Markup
    """Segments, baseline and scale of each side as JSON, for the pointer."""
    tokens_url: str
    mask_view: bool
    rule_note: str = ""
    """Why the run's own rule is what it is, and what its mask comes to over the run."""
    adopt_url: str | None = None
    """Where the shown rule becomes the run's own; None while it is, or while the run is still scored."""
    track: TrackName = "reward"
    is_sequential: bool = False
    """Whether colours tell sizes only."""
    link: str = ""
    """The address that gives exactly this view, whatever becomes of the run's own rule."""


def view_panel(
    view: CutPair,
    look: Look,
    *,
    tokens_url: str,
    adopt_url: str | None = None,
    link: str = "",
    said: Mapping[Side, Sequence[TokenVerdict]] | None = None,
) -> ViewPanel:
    """The panel of a pair that a run has scored and a rule has cut."""
    drawing = drawing_of(view.sides, view.source.name, view.rule, look)
    said = said or {}
    return ViewPanel(
        sides=[side_panel(side, drawing, said.get(side.side, ())) for side in view.sides],
        figures=figures(view.agreement),
        warnings=[*warnings(view), *_not_compared(look, drawing, view.sides)],
        legend=legend(view.sides, drawing) if view.sides else None,
        data=view_data(view.sides, drawing),
        tokens_url=tokens_url,
        mask_view=look.mask_view,
        rule_note=view.source.about_rule,
        adopt_url=adopt_url,
        track=drawing.track,
        is_sequential=drawing.colouring.is_sequential,
        link=link,
    )


def drawing_of(sides: Sequence[SideView], source: str, rule: SegmentationRule, look: Look) -> Drawing:
    """How a pair is drawn: a track that the run did not store gives way to the reward."""
    return drawings.drawing_of(sides, source, rule, track=look.track, colour=look.colour, compare=look.diff)


def side_panel(side: SideView, drawing: Drawing, said: Sequence[TokenVerdict] = ()) -> SidePanel:
    """One response, marked, with what people said of it."""
    cut, drawn = side.segmentation, drawing.sides[side.side]
    marked = MarkedResponse(
        text=side.text,
        starts=side.map.offsets[:, 0].tolist(),
        ends=side.map.offsets[:, 1].tolist(),
        levels=drawn.levels,
        segments=cut.segments,
        ranks=drawn.ranks,
        candidates=cut.candidates.tolist(),
        refused=list(drawn.refused),
        differing=drawn.differing,
        spans=side.spans or (),
        said=said,
        eos=side.map.eos,
        eos_kept=bool(cut.mask[-1]) if len(cut.mask) else True,
    )
    return SidePanel(
        side=side.side,
        sign="preferred, +1" if SIGN[side.side] > 0 else "dispreferred, \N{MINUS SIGN}1",
        summary=summary(side),
        curve=_curve(side, drawing),
        text=highlight(marked),
        is_empty=not side.text,
        minimap=minimap.draw(minimap.Minimap(drawn.strip, drawn.ranks)),
    )


def _curve(side: SideView, drawing: Drawing) -> Markup:
    """The small picture of a side; empty where no value is there to take a scale from."""
    if drawing.colouring.clip <= 0:
        return Markup("")
    return curve.draw(
        curve.RewardCurve(
            bins=drawing.sides[side.side].curve,
            segments=side.segmentation.segments,
            band=_band(side, drawing),
            name=side.side,
            track="rewards" if drawing.track == "reward" else TRACKS[drawing.track].label,
            is_sequential=drawing.colouring.is_sequential,
        )
    )


def summary(side: SideView) -> list[PairFigure]:
    """The numbers in the head of a side."""
    cut = side.segmentation
    found = [
        PairFigure("reward", signed(side.total), hint="Reward of the whole response by this source."),
        PairFigure("kept", percent(side.kept), hint="Share of its tokens that the mask keeps: they count."),
        PairFigure("tokens", count(side.map.tokens), hint="Response tokens, the end of sequence included."),
        PairFigure("segments", count(len(cut.segments)), hint="Stretches between two pivots."),
        PairFigure("pivots", count(len(cut.pivots)), hint="Where the signal turns and a segment begins."),
    ]
    if cut.missing:
        missing = count(cut.missing)
        found.append(
            PairFigure("without reward", missing, hint="Tokens whose reward is missing: it is not 0.")
        )
    return found


def figures(agreement: Agreement) -> list[PairFigure]:
    """The numbers of the pair."""
    return [
        PairFigure(
            "Margin",
            signed(agreement.margin),
            "chosen less rejected",
            "Reward of the chosen response less that of the rejected one; above 0 the source agrees with "
            "the preference.",
        ),
        PairFigure(
            "Conflict mass",
            percent(agreement.conflict),
            "of |reward| contradicts",
            "Share of |reward| that lies in segments against the preference: bad ones of the chosen "
            "response, good ones of the rejected one.",
        ),
        PairFigure("Kept, chosen", percent(agreement.kept_chosen), "of its tokens", KEPT),
        PairFigure("Kept, rejected", percent(agreement.kept_rejected), "of its tokens", KEPT),
    ]


def warnings(view: CutPair) -> list[str]:
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
    if view.rule == view.source.rule:
        told.extend(f"Over the whole run: {sentence}" for sentence in view.source.warnings)
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
    numbers = ends(drawing.colouring, drawing.track)
    rule, track = drawing.rule, TRACKS[drawing.track]
    is_scaled = drawing.track == "reward" and drawing.colour == "scaled"
    refused = [drawing.sides[side.side].refused.keys() for side in sides]
    crossed = [
        set(side.segmentation.candidates.tolist()) - set(side.segmentation.pivots.tolist()) for side in sides
    ]
    return Legend(
        low=numbers.low,
        high=numbers.high,
        levels=list(ramp(drawing.colouring, LEVELS)),
        unit=_scaled_unit(sides, rule.baseline) if is_scaled else track.unit,
        has_spans=any(side.spans for side in sides),
        has_disputes=any(segment.disputed for side in sides for segment in side.segmentation.segments),
        has_missing=any(side.segmentation.missing for side in sides),
        has_candidates=any(found - out for found, out in zip(crossed, refused, strict=True)),
        has_refused=any(refused),
        band="" if drawing.delta is None else f"±{drawing.delta:g}",
        differs=_differs(sides, drawing),
        formula=formula(sides, rule.baseline) if drawing.track == "reward" else track.hint.rstrip("."),
    )


def _differs(sides: Sequence[SideView], drawing: Drawing) -> str:
    """How many tokens of each side the other lacks."""
    if not drawing.is_compared:
        return ""
    shares = ", ".join(
        f"{percent(drawing.sides[side.side].differing_share)} of {side.side}" for side in sides
    )
    return f"not in the other response: {shares}"


def _not_compared(look: Look, drawing: Drawing, sides: Sequence[SideView]) -> list[str]:
    if not look.diff or drawing.is_compared or not sides:
        return []
    if len(sides) == 1:
        return ["There is one response only, so there is nothing that it could differ from."]
    return ["The responses are too long to be aligned token by token, so what differs is not marked."]


def view_data(sides: Sequence[SideView], drawing: Drawing) -> Markup:
    """What the pointer needs beside the stored tracks: [start, reward, state] of each segment, where state is
    1 for kept plus 2 for disputed; the band, and where the signal is smoothed, how far candidates went."""
    data: dict[str, Any] = {"sides": {}}
    if drawing.delta is not None:
        data["delta"] = drawing.delta
    for side in sides:
        cut, drawn = side.segmentation, drawing.sides[side.side]
        data["sides"][side.side] = found = {
            "baseline": cut.baseline,
            "scale": cut.scale,
            "segments": [
                [segment.start, reward, segment.kept + 2 * segment.disputed]
                for segment, reward in zip(cut.segments, drawn.segment_rewards, strict=True)
            ],
        }
        if drawn.end_kept:
            found["end"] = True
        if drawn.pushes is not None:
            found["pushes"] = drawn.pushes
        if drawing.is_smoothed:
            found["reaches"] = drawn.reaches
    return script_json(data)


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
    delta, clip = drawing.delta, drawing.colouring.clip
    if delta is None or drawing.track != "reward" or clip <= 0:
        return None
    cut = side.segmentation
    if drawing.colour == "scaled":
        return -delta / clip, delta / clip
    return (cut.baseline - delta * cut.scale) / clip, (cut.baseline + delta * cut.scale) / clip
