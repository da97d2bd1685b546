"""How much masks keep: of every response, and of chosen and rejected responses together.

Responses are laid end to end: row i is tokens [starts[i], starts[i + 1]). A mask is True where a token
counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from engine.types import Side

NEARLY_ALL, NEXT_TO_NONE = 0.95, 0.05
"""Shares of kept tokens beyond which a mask is nearly none, or leaves nearly nothing, of a side."""
FAR_MORE = 5.0
"""How many times the share of the other side is far more of chosen responses; of rejected ones any is."""


def kept_tokens(
    mask: Bool[np.ndarray, " tokens"], starts: Int64[np.ndarray, " row_starts"]
) -> Int64[np.ndarray, " rows"]:
    """How many tokens of every row count: sum_t mask_t."""
    sums = np.concatenate([[0], np.cumsum(mask, dtype=np.int64)])
    counts: np.ndarray = sums[starts[1:]] - sums[starts[:-1]]
    return counts


def kept_fractions(
    mask: Bool[np.ndarray, " tokens"], starts: Int64[np.ndarray, " row_starts"]
) -> Float64[np.ndarray, " rows"]:
    """Share in [0, 1] of every row's tokens that count; NaN for a row without tokens."""
    tokens = np.diff(starts)
    shares = np.full(len(tokens), np.nan)
    np.divide(kept_tokens(mask, starts), tokens, out=shares, where=np.asarray(tokens > 0))
    return shares


def kept_fraction(mask: Bool[np.ndarray, " response"]) -> float:
    """Share in [0, 1] of one response's tokens that count; NaN for a response without tokens."""
    return float(kept_fractions(mask, np.array([0, len(mask)]))[0])


class KeptSums(NamedTuple):
    """What masks keep of some responses; adds up over batches of them."""

    tokens: Int64[np.ndarray, 2]
    """Tokens of the chosen and of the rejected responses."""
    kept: Int64[np.ndarray, 2]
    """Those among them that count."""
    nothing: int
    """Responses that have tokens, but none that counts."""
    pivots: int = 0

    @classmethod
    def none(cls) -> KeptSums:
        """Of no response at all."""
        return cls(np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64), 0)

    def figures(self) -> MaskFigures:
        """What the mask comes to."""
        tokens = int(self.tokens.sum())
        return MaskFigures(
            self.share("chosen"), self.share("rejected"), tokens / self.pivots if self.pivots else None
        )

    def plus(
        self,
        mask: Bool[np.ndarray, " tokens"],
        starts: Int64[np.ndarray, " row_starts"],
        are_chosen: Bool[np.ndarray, " rows"],
        cuts: Bool[np.ndarray, " tokens"] | None = None,
    ) -> KeptSums:
        """With the responses of one more batch; `are_chosen` is True where a row is a chosen response, `cuts`
        where a segment starts (a pivot is a cut that is not a row's first token)."""
        lengths, counts = np.diff(starts), kept_tokens(mask, starts)
        side = np.where(are_chosen, 0, 1)
        return KeptSums(
            self.tokens + np.bincount(side, lengths, 2).astype(np.int64),
            self.kept + np.bincount(side, counts, 2).astype(np.int64),
            self.nothing + int(np.count_nonzero((counts == 0) & (lengths > 0))),
            self.pivots + (0 if cuts is None else int(cuts.sum()) - int(np.count_nonzero(lengths))),
        )

    def share(self, side: Side) -> float | None:
        """Share in [0, 1] of the side's tokens that count; None where it has none."""
        row = 0 if side == "chosen" else 1
        return float(self.kept[row] / self.tokens[row]) if self.tokens[row] else None


@dataclass(frozen=True, slots=True)
class MaskFigures:
    """What a mask keeps of many responses, and how finely they are cut."""

    chosen: float | None
    """Share in [0, 1] of the tokens of chosen responses; None where there are none."""
    rejected: float | None
    tokens_a_pivot: float | None
    """None where there is no pivot, or none was counted."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "kept_chosen": self.chosen,
            "kept_rejected": self.rejected,
            "tokens_a_pivot": self.tokens_a_pivot,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> MaskFigures:
        """What `as_dict` wrote."""
        return cls(fields["kept_chosen"], fields["kept_rejected"], fields["tokens_a_pivot"])

    def sentence(self) -> str:
        """The figures in words; '' where there is none."""
        sides = {"chosen": self.chosen, "rejected": self.rejected}
        shares = " and ".join(
            f"{share:.0%} of the {side}" for side, share in sides.items() if share is not None
        )
        if not shares:
            return ""
        pivots = "" if self.tokens_a_pivot is None else f"; 1 pivot in {self.tokens_a_pivot:.0f} tokens"
        return f"keeps {shares} tokens{pivots}"

    def warnings(self) -> list[str]:
        """Sentences where the mask drops nothing, keeps nearly all or nothing of a side, or rewards drift."""
        shares = {
            side: share
            for side, share in (("chosen", self.chosen), ("rejected", self.rejected))
            if share is not None and math.isfinite(share)
        }
        if shares and all(share == 1 for share in shares.values()):
            return [
                "The mask drops nothing: every token counts, as in sample-wise training. Compare another "
                "baseline or threshold, or train sample-wise."
            ]
        found = [
            f"The mask keeps {share:.1%} of the {side} tokens, "
            f"{'nearly all' if share > NEARLY_ALL else 'hardly any'}: it tells next to nothing of right and "
            "wrong tokens there. Compare another baseline or threshold."
            for side, share in shares.items()
            if share > NEARLY_ALL or share < NEXT_TO_NONE
        ]
        if len(shares) < 2:
            return found
        chosen, rejected = shares["chosen"], shares["rejected"]
        both = f"The mask keeps {rejected:.0%} of the rejected tokens and {chosen:.0%} of the chosen ones"
        if rejected > chosen:
            found.append(
                f"{both}: lowering the probability of everything raises the margin then. Compare another "
                "baseline or threshold."
            )
        elif not found and chosen > FAR_MORE * rejected:
            found.append(
                f"{both}: training says far more of the one side than of the other. Compare another baseline "
                "or threshold."
            )
        return found


def about_rule(reason: str, figures: MaskFigures | None) -> str:
    """Why a rule is what it is, and what its mask comes to; empty where nobody kept either."""
    if not reason:
        return ""
    keeps = "" if figures is None else figures.sentence()
    return f"The rule is {reason}." + (f" It {keeps}." if keeps else "")
