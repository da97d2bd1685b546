"""The responses of a run laid end to end, without padding, with all that a rule may ask about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int, Int64


@dataclass(frozen=True, slots=True)
class Rows:
    """Row i is tokens [starts[i], starts[i + 1]); a row may be empty.

    The scaled reward is s_t = (r_t - baseline of the row) / scale.
    """

    rewards: Float[np.ndarray, " tokens"]
    """r_t in float32 or float64; NaN where missing."""
    starts: Int64[np.ndarray, " row_starts"]
    baselines: Float64[np.ndarray, " rows"]
    scale: float
    texts: Sequence[str] | None = None
    offsets: Int[np.ndarray, "tokens 2"] | None = None
    """Code points [start, end) of every token in its row's text."""
    entropies: Float[np.ndarray, " tokens"] | None = None
    """Nats."""

    def __len__(self) -> int:
        return len(self.baselines)

    @property
    def tokens(self) -> int:
        return len(self.rewards)

    def scaled(self) -> Float64[np.ndarray, " tokens"]:
        """s_t of every token; NaN where the reward is missing."""
        baselines = np.repeat(self.baselines, np.diff(self.starts))
        with np.errstate(over="ignore"):
            return np.asarray((self.rewards - baselines) / self.scale, dtype=np.float64)

    def row_cuts(self) -> np.ndarray:
        """Cuts (True where a segment starts) at the rows' first tokens only."""
        cuts = np.zeros(self.tokens, dtype=np.bool_)
        cuts[self.starts[:-1][np.diff(self.starts) > 0]] = True
        return cuts
