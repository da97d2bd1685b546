"""How somebody looks at a pair, read from an address and written back: the track, what is marked, the token.

The look says nothing of numbers; the rule does (`rule_controls`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.services.pairs.drawing import TRACK_NAMES, Colour, TrackName

_TOKEN = re.compile(r"(chosen|rejected)-(0|[1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class Look:
    """What is drawn of a pair, and what has the focus."""

    colour: Colour = "scaled"
    """The reward track: as it is, or less the baseline and in units of the scale."""
    track: TrackName = "reward"
    mask_view: bool = False
    """Whether the text shows what training would see."""
    diff: bool = False
    """Whether tokens that the other side lacks are marked."""
    beside: bool = False
    """Whether the pair is shown under every source of the run."""
    at: str | None = None
    """The token with the focus, such as `chosen-17`."""

    def of_another_pair(self) -> Look:
        """The look that another pair can take over: its tokens are other ones."""
        return replace(self, at=None)


def look_from(values: Mapping[str, str]) -> Look:
    """The look of an address; words that mean nothing are passed over, since a look breaks nothing."""
    at = values.get("at", "")
    return Look(
        colour="raw" if values.get("colour") == "raw" else "scaled",
        track=next((name for name in TRACK_NAMES if name == values.get("lane")), "reward"),
        mask_view=values.get("view") == "mask",
        diff=values.get("diff") == "1",
        beside=values.get("beside") == "1",
        at=at if _TOKEN.fullmatch(at) else None,
    )


def look_query(look: Look) -> dict[str, Any]:
    """What an address must say so that `look_from` gives `look`; None where it need not say anything.

    Addresses call the track `lane`: people have kept and shared them.
    """
    return {
        "colour": None if look.colour == "scaled" else look.colour,
        "lane": None if look.track == "reward" else look.track,
        "view": "mask" if look.mask_view else None,
        "diff": 1 if look.diff else None,
        "beside": 1 if look.beside else None,
        "at": look.at,
    }
