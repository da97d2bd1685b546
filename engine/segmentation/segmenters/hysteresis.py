"""The signal of a response by hysteresis [sibling figure], and its zero crossings.

    g_t = +1 where s_t > delta, -1 where s_t < -delta, else g_(t-1)

The inequalities are strict. A missing reward keeps the signal. Tokens before the first one outside the band
take that one's sign; where none is outside, the response is one neutral segment with signal 0 [ours].

Rewards arrive in float64 from JSON and in float32 from storage. Both are compared after rounding to float32,
delta too, so that a reward of 0.3 clears a delta of 0.3 in neither [ours].
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float32, Int32
from pydantic import Field

from engine.fields import shown
from engine.segmentation.compiled import compiled
from engine.segmentation.rows import Rows
from engine.segmentation.segmenter import SEGMENTERS, Segmenter, SegmenterFields, Turns
from engine.segmentation.segments import merge_short
from engine.segmentation.smoothing import smooth


class Hysteresis(SegmenterFields):
    """The signal turns when a scaled reward leaves the band from -δ to δ on the other side."""

    name: Literal["hysteresis"] = "hysteresis"
    delta: float = Field(0.3, ge=0, title="Threshold δ", json_schema_extra=shown(step=0.01, slider_to=2))
    """A pivot needs a signal that leaves the band from -δ to δ on the other side."""
    min_len: int = Field(1, ge=1, title="Shortest segment")
    """Shorter segments are merged, shortest first, into the neighbour nearer in mean."""
    smoothing: Literal["none", "median", "ema"] = Field(
        "none",
        title="Smoothing",
        json_schema_extra=shown(words={"median": "median of 5", "ema": "moving average"}),
    )
    """What smooths the rewards before they are cut: a median of 5, or an exponential average of weight .5."""


def turns(rows: Rows, fields: Hysteresis) -> Turns:
    """The signal of every token and the cuts it makes, short segments merged."""
    signal = np.empty(rows.tokens, dtype=np.int8)
    cuts = np.empty(rows.tokens, dtype=np.bool_)
    band = np.float32(fields.delta)
    if fields.smoothing == "none":
        follow(rows.rewards, rows.starts, rows.baselines, rows.scale, band, signal, cuts)
    else:
        smoothed = smooth(rows.scaled(), rows.starts, fields.smoothing)
        follow(smoothed, rows.starts, np.zeros(len(rows)), 1.0, band, signal, cuts)
    if fields.min_len > 1:
        merge_short(rows.rewards, rows.starts, rows.baselines, rows.scale, fields.min_len, signal, cuts)
    return Turns(signal, cuts)


@compiled
def follow(
    rewards: np.ndarray,
    starts: np.ndarray,
    baselines: np.ndarray,
    scale: float,
    band: np.float32,
    signal: np.ndarray,
    cuts: np.ndarray,
) -> None:
    """Writes the signal and its cuts, row by row."""
    for row in range(len(starts) - 1):
        start, end, baseline = starts[row], starts[row + 1], baselines[row]
        state = np.int8(0)
        for t in range(start, end):
            scaled = np.float32((rewards[t] - baseline) / scale)
            if scaled > band or scaled < -band:
                state = np.int8(1) if scaled > band else np.int8(-1)
                break
        for t in range(start, end):
            scaled = np.float32((rewards[t] - baseline) / scale)
            # Arithmetic instead of branches, which noise makes unpredictable: three times as fast.
            outside = np.int8(scaled > band) - np.int8(scaled < -band)
            after = np.int8(outside + state * (outside == 0))
            signal[t] = after
            cuts[t] = after != state
            state = after
        if end > start:
            cuts[start] = True


def zero_crossings(scaled: Float32[np.ndarray, " response"]) -> Int32[np.ndarray, " candidates"]:
    """Every t whose reward has another sign than the last present one before it; 0 is a sign of its own.

    So zero counts when it is reached, left or jumped over: the sibling's figure has candidates at -0.3 ->
    0.02, 0.02 -> 0 and 0 -> 0.48. They need not clear the band, and a pivot need not be one of them: the
    signal turns later where the reward lingers in the band.
    """
    present = np.flatnonzero(~np.isnan(scaled))
    signs = np.sign(scaled[present])
    return np.asarray(present[1:][signs[1:] != signs[:-1]], dtype=np.int32)


def reaches(
    scaled: Float32[np.ndarray, " response"], crossings: Int32[np.ndarray, " candidates"]
) -> Float32[np.ndarray, " candidates"]:
    """How far the rewards go from each crossing before the next one: the value furthest from zero.

    A crossing that stays within the band was no turn: that value is what it lacks.
    """
    if not len(crossings):
        return np.zeros(0, dtype=np.float32)
    known = np.nan_to_num(scaled, nan=0.0)
    high, low = np.maximum.reduceat(known, crossings), np.minimum.reduceat(known, crossings)
    return np.where(high >= -low, high, low).astype(np.float32)


SEGMENTERS.register(
    Segmenter(
        Hysteresis,
        "Hysteresis",
        turns,
        signal="segmenter",
        compiles=(Hysteresis(min_len=2), Hysteresis(smoothing="median"), Hysteresis(smoothing="ema")),
    )
)
