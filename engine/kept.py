"""How much masks keep: of every response, and of chosen and rejected responses together.

Responses are laid end to end: row i is tokens [starts[i], starts[i + 1]). A mask is True where a token
counts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from engine.types import Side


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

    @classmethod
    def none(cls) -> KeptSums:
        """Of no response at all."""
        return cls(np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64), 0)

    def plus(
        self,
        mask: Bool[np.ndarray, " tokens"],
        starts: Int64[np.ndarray, " row_starts"],
        are_chosen: Bool[np.ndarray, " rows"],
    ) -> KeptSums:
        """With the responses of one more batch; `are_chosen` is True where a row is a chosen response."""
        lengths, counts = np.diff(starts), kept_tokens(mask, starts)
        side = np.where(are_chosen, 0, 1)
        return KeptSums(
            self.tokens + np.bincount(side, lengths, 2).astype(np.int64),
            self.kept + np.bincount(side, counts, 2).astype(np.int64),
            self.nothing + int(np.count_nonzero((counts == 0) & (lengths > 0))),
        )

    def share(self, side: Side) -> float | None:
        """Share in [0, 1] of the side's tokens that count; None where it has none."""
        row = 0 if side == "chosen" else 1
        return float(self.kept[row] / self.tokens[row]) if self.tokens[row] else None
