"""Numbers with so many significant digits, as JSON has them: short to send, and null where one is missing."""

from __future__ import annotations

import numpy as np
from jaxtyping import Shaped

from engine.types import ranks_to_null


def rounded_list(values: Shaped[np.ndarray, " numbers"], digits: int = 5) -> list[float | int | None]:
    """Each number as the nearest one of `digits` significant decimal digits; None where it is not finite.

    Whole numbers are ranks: they stay whole, and None stands for a negative one.
    """
    if values.dtype.kind in "iu":
        return list(ranks_to_null(values))
    exact = values.astype(np.float64)
    sizes = np.abs(exact)
    # Within these the powers of ten are exact, so that each number is the one nearest to its decimals.
    common = (sizes > 1e-15) & (sizes < 1e15)
    known = np.where(common, exact, 1.0)
    places = digits - 1 - np.floor(np.log10(np.abs(known))).astype(int)
    up, down = 10.0 ** np.maximum(places, 0), 10.0 ** np.maximum(-places, 0)
    found: list[float | int | None] = (np.rint(known * up / down) * down / up).tolist()
    for position in np.flatnonzero(~common).tolist():
        found[position] = rounded(float(exact[position]), digits)
    return found


def rounded(value: float, digits: int = 5) -> float | None:
    """One number with so many significant digits; None where it is not finite."""
    return float(f"{value:.{digits}g}") if value == value and abs(value) != float("inf") else None
