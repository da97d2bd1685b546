"""A pair in numbers that can be drawn: what colours it, as classes of colour and bins, and what is marked.

Asks the engine for every number. Knows no look of a page, no request and no words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from app.services.scorings.maps import CutPair, SideView
from engine.alignment import differences
from engine.binning import CurveBins as CurveBins
from engine.binning import StripBins as StripBins
from engine.binning import curve_bins, strip_bins
from engine.colouring import LEVELS as LEVELS
from engine.colouring import Colouring as Colouring
from engine.colouring import Scale, colouring_of
from engine.evaluation.localisation import token_labels
from engine.masks import dropped_tokens, refused_candidates
from engine.rounding import rounded, rounded_list
from engine.rules import SegmentationRule
from engine.segmentation.segmenters.hysteresis import Hysteresis
from engine.segmentation.segments import pivot_ranks
from engine.stances import disagreeing
from engine.training.methods.dpo import Dpo
from engine.training.preview import dpo_pushes, seen_side
from engine.types import RewardMap, Side

TrackName = Literal["reward", "logprob", "reference", "entropy", "rank", "ratio", "gradient"]
"""A number that every token has, by which a response can be coloured."""
TRACK_NAMES: tuple[TrackName, ...] = get_args(TrackName)
SCALES: Mapping[TrackName, Scale] = {
    "reward": "diverging",
    "logprob": "sequential",
    "reference": "sequential",
    "entropy": "sequential",
    "rank": "logarithmic",
    "ratio": "diverging",
    "gradient": "diverging",
}
Colour = Literal["scaled", "raw"]
"""Rewards less the baseline and in units of the scale, or as the source gave them."""
Numbers = list[float | int | None]
"""Null where one is missing."""


@dataclass(frozen=True)
class DrawnSide:
    """One response as it is drawn. Lists have one entry a response token, EOS included."""

    side: Side
    view: SideView
    values: np.ndarray
    """What is coloured; NaN where missing."""
    colouring: Colouring
    """The scale that the sides of the pair share."""
    refused: Mapping[int, float]
    """The candidates that stayed within the band, and how far each went, in scaled units."""
    different: np.ndarray | None
    """True at the tokens that the other side lacks; None where the sides are not compared."""
    gradient: np.ndarray | None
    """Where training would move each log-probability; None where that is not what is coloured."""

    @property
    def levels(self) -> list[int | None]:
        """The class of colour of every token."""
        return self.colouring.levels(self.values)

    @cached_property
    def ranks(self) -> dict[int, int]:
        """Position of every pivot -> its rank: 1 is where the segment reward turns furthest."""
        return pivot_ranks(self.view.segmentation.segments)

    @property
    def differing(self) -> list[bool] | None:
        """Whether the other side lacks each token."""
        return None if self.different is None else list(self.different.tolist())

    @property
    def differing_share(self) -> float:
        """Share of the tokens that the other side lacks."""
        return 0.0 if self.different is None or not len(self.different) else float(self.different.mean())

    @property
    def end_kept(self) -> bool:
        """Whether the end of sequence counts although its segment does not."""
        cut = self.view.segmentation
        return self.view.map.eos is not None and bool(cut.mask[-1]) and not cut.segments[-1].kept

    @property
    def curve(self) -> CurveBins:
        """The values as shares of the strongest colour, in bins; with what is left out and what is wrong."""
        return curve_bins(self._shares, self._dropped, self._wrong)

    @property
    def strip(self) -> StripBins:
        """The colours in bins, with what is left out and what differs."""
        return strip_bins(self._shares, self._dropped, self.different)

    @property
    def pushes(self) -> Numbers | None:
        """Where training would move the log-probability of each token, to three digits."""
        return None if self.gradient is None else rounded_list(self.gradient, 3)

    @property
    def reaches(self) -> dict[int, float | None]:
        """How far each refused candidate went, to three digits."""
        return {position: rounded(reach, 3) for position, reach in self.refused.items()}

    @property
    def segment_rewards(self) -> Numbers:
        """The reward of every segment, to three digits."""
        return rounded_list(np.array([one.reward for one in self.view.segmentation.segments]), 3)

    @cached_property
    def _shares(self) -> np.ndarray:
        return self.colouring.shares(self.values)

    @cached_property
    def _dropped(self) -> np.ndarray:
        return dropped_tokens(self.view.segmentation.segments, end_kept=self.end_kept)

    @property
    def _wrong(self) -> np.ndarray | None:
        """True at the tokens that touch a span which is labelled as an error."""
        if not self.view.spans:
            return None
        return np.asarray(token_labels(self.view.spans, self.view.map.offsets) == 1)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A pair under one source, rule and track."""

    source: str
    rule: SegmentationRule
    track: TrackName
    colour: Colour
    colouring: Colouring
    sides: Mapping[Side, DrawnSide]
    delta: float | None
    """The threshold that a candidate must clear, in scaled units; None where the rule has none."""
    is_smoothed: bool
    """Whether the rule cuts by smoothed rewards, which are not those that are shown."""
    is_compared: bool
    """Whether it is known which tokens the other side lacks."""


def drawing_of(
    sides: Sequence[SideView],
    source: str,
    rule: SegmentationRule,
    *,
    track: TrackName = "reward",
    colour: Colour = "scaled",
    compare: bool = False,
) -> Drawing:
    """The sides of a pair as they are drawn: a track that the run did not store gives way to the reward."""
    if track != "reward" and track not in tracks_of(side.map for side in sides):
        track = "reward"
    pushes = pushes_of(sides) if track == "gradient" else {}
    values = {side.side: pushes.get(side.side, shown_values(side, source, track, colour)) for side in sides}
    colouring = colouring_of(values.values(), SCALES[track])
    differing = differing_tokens(sides) if compare else {}
    band = rule.segmenter if isinstance(rule.segmenter, Hysteresis) else None
    return Drawing(
        source=source,
        rule=rule,
        track=track,
        colour=colour,
        colouring=colouring,
        sides={
            side.side: DrawnSide(
                side=side.side,
                view=side,
                values=values[side.side],
                colouring=colouring,
                refused=refused_candidates(side.segmentation, rule),
                different=differing.get(side.side),
                gradient=pushes.get(side.side),
            )
            for side in sides
        },
        delta=None if band is None else band.delta,
        is_smoothed=band is not None and band.smoothing != "none",
        is_compared=bool(differing),
    )


def disagreement(sides: Sequence[SideView]) -> tuple[StripBins, float | None]:
    """Where the signal of one source calls a token good and that of another bad, for the same response under
    several sources: in bins, and as a share of the tokens (None: there is no token)."""
    where = disagreeing(np.stack([side.segmentation.signal for side in sides]))
    return strip_bins(np.zeros(len(where)), disagreeing=where), float(where.mean()) if len(where) else None


# ------------------------------------------------------------------------------------------------ the tracks


def tracks_of(maps: Iterable[RewardMap]) -> set[TrackName]:
    """The tracks that can be shown of these responses."""
    stored = list(maps)
    found: set[TrackName] = {"reward"}
    found |= {
        name for name in TRACK_NAMES if stored and all(track_values(one, name) is not None for one in stored)
    }
    if "ratio" in found and len({one.side for one in stored}) == 2:
        found.add("gradient")
    return found


def track_values(stored: RewardMap, track: TrackName) -> np.ndarray | None:
    """The numbers of a stored track, one a token; None where the run did not store them. `reward` and
    `gradient` are made of more than one map."""
    if track == "ratio":
        if stored.logprobs is None or stored.reference_logprobs is None:
            return None
        return np.asarray(stored.logprobs - stored.reference_logprobs)
    tracks = {
        "logprob": stored.logprobs,
        "reference": stored.reference_logprobs,
        "entropy": stored.entropies,
        "rank": None
        if stored.ranks is None
        else np.where(stored.ranks < 0, np.nan, stored.ranks).astype(np.float32),
    }
    return tracks.get(track)


def shown_values(side: SideView, source: str, track: TrackName, colour: Colour) -> np.ndarray:
    """What is coloured: a stored track; of rewards those that the source gave, or less the baseline and in
    units of the scale."""
    stored = None if track == "reward" else track_values(side.map, track)
    if stored is not None:
        return stored
    return np.asarray(side.segmentation.scaled if colour == "scaled" else side.map.rewards[source])


def pushes_of(sides: Sequence[SideView]) -> dict[Side, np.ndarray]:
    """Where a step of DPO, as trainings do it by default, would move each log-probability under the masks of
    both sides; empty where the run lacks what that takes."""
    seen = {side.side: seen_side(side.map, side.segmentation) for side in sides}
    chosen, rejected = seen.get("chosen"), seen.get("rejected")
    if chosen is None or rejected is None or chosen.reference_logprobs is None:
        return {}
    return dpo_pushes(chosen, rejected, Dpo())


def differing_tokens(sides: Sequence[SideView]) -> dict[Side, np.ndarray]:
    """The tokens of each side that the other lacks; empty where there is no other, or both are too long."""
    if len(sides) != 2:
        return {}
    found = differences(sides[0].map.token_ids, sides[1].map.token_ids)
    return {} if found is None else {sides[0].side: found.left, sides[1].side: found.right}


def token_tracks(view: CutPair) -> dict[Side, dict[str, Numbers]]:
    """The stored numbers of every token, by side and track, to five digits."""
    return {
        side.side: {
            name: rounded_list(values)
            for name, values in {
                "rewards": side.map.rewards[view.source.name],
                "logprobs": side.map.logprobs,
                "reference_logprobs": side.map.reference_logprobs,
                "entropies": side.map.entropies,
                "ranks": side.map.ranks,
            }.items()
            if values is not None
        }
        for side in view.sides
    }
