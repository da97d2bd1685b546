"""The learning rate of every update: a function of the step, so that no checkpoint need carry it."""

from __future__ import annotations

import math

from engine.training.request import Optimisation


def learning_rate_at(update: int, optimisation: Optimisation) -> float:
    """The rate of update `update` (from 0): up over the warm-up, then constant, or down a line or a cosine.

    `steps` and `learning_rate` are resolved. The first rate is above 0, and so is the last.
    """
    peak, steps = optimisation.learning_rate, optimisation.steps
    assert peak is not None, "the request is resolved"
    assert steps is not None
    rising = round(optimisation.warmup * steps)
    if update < rising:
        return peak * (update + 1) / rising
    if optimisation.schedule == "constant":
        return peak
    done = (update - rising) / max(1, steps - rising)
    if optimisation.schedule == "linear":
        return peak * (1 - done)
    return peak * (1 + math.cos(math.pi * done)) / 2
