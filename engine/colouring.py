"""Numbers of tokens as classes of colour, on one scale for all responses that are looked at together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

Scale = Literal["diverging", "sequential", "logarithmic"]
"""How values become colours: by sign and size, by size alone, or by the order of size."""
LEVELS = 10
"""Classes of colour on each side of zero."""
CLIP_QUANTILE = 0.99
"""Values beyond this quantile of |value| take the strongest colour."""


@dataclass(frozen=True, slots=True)
class Colouring:
    """A scale: values at `clip` or beyond take the strongest colour."""

    clip: float
    """In the unit of the values; 0 where there is no value to take it from."""
    scale: Scale = "diverging"

    @property
    def is_sequential(self) -> bool:
        """Whether colours tell sizes only, from 0 to `LEVELS`."""
        return self.scale != "diverging"

    def shares(self, values: Float[np.ndarray, " tokens"]) -> Float[np.ndarray, " tokens"]:
        """How far each value goes towards the strongest colour, in [-1, 1]; NaN where it is missing.

        diverging    value / clip
        sequential   |value| / clip
        logarithmic  log(1 + |value|) / log(1 + clip)
        """
        if self.clip <= 0:
            return np.where(np.isnan(values), np.nan, 0.0)
        if self.scale == "logarithmic":
            return np.asarray(np.minimum(np.log1p(np.abs(values)) / np.log1p(self.clip), 1.0))
        if self.scale == "sequential":
            return np.asarray(np.minimum(np.abs(values) / self.clip, 1.0))
        return np.asarray(np.clip(values / self.clip, -1.0, 1.0))

    def levels(self, values: Float[np.ndarray, " tokens"]) -> list[int | None]:
        """The class of each value, round(share * LEVELS); None where the value is missing."""
        shares = self.shares(values)
        missing = np.isnan(shares)
        levels: list[int | None] = np.rint(np.where(missing, 0.0, shares) * LEVELS).astype(int).tolist()
        for position in np.flatnonzero(missing).tolist():
            levels[position] = None
        return levels


def colouring_of(values: Iterable[Float[np.ndarray, " tokens"]], scale: Scale = "diverging") -> Colouring:
    """The scale of some responses: the 99th percentile of |value| over all of them, what is missing or
    infinite left out."""
    together = np.abs(
        np.concatenate([np.asarray(track, dtype=np.float64) for track in values] or [np.zeros(0)])
    )
    together = together[np.isfinite(together)]
    return Colouring(float(np.quantile(together, CLIP_QUANTILE)) if together.size else 0.0, scale)
