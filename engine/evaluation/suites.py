"""Figures of a task suite: success by category, and what was forgotten of kept skills."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.evaluation.figures import figure, parts_of
from engine.evaluation.intervals import difference_interval, share_interval
from engine.evaluation.request import Figure
from engine.tasks import Task


def suite_figures(
    suite: str,
    tasks: Sequence[Task],
    shares: Sequence[float],
    reference_shares: Sequence[float] | None,
    confidence: float,
) -> list[Figure]:
    """Success of all tasks and of each category; forgetting where tasks are kept and there is a reference.

    `shares` say how much of each task was right. Forgetting is the mean of reference - policy over kept
    tasks, task by task under the same noise, so that its interval is narrower than those of the two shares.
    """
    ours = np.array(shares, np.float64)
    theirs = None if reference_shares is None else np.array(reference_shares, np.float64)
    figures = []
    for part in ["", *parts_of(task.category for task in tasks)]:
        inside = np.array([part in ("", task.category) for task in tasks])
        of_reference = None if theirs is None else float(theirs[inside].mean())
        found = share_interval(ours[inside], confidence)
        figures.append(figure("success", part, found, int(inside.sum()), of_reference, suite=suite))
    if theirs is None:
        return figures
    kept = [task for task in tasks if task.kept]
    for part in ["", *parts_of(task.category for task in kept)] if kept else []:
        inside = np.array([task.kept and part in ("", task.category) for task in tasks])
        lost = difference_interval(theirs[inside], ours[inside], confidence)
        count = int(inside.sum())
        figures.append(figure("forgetting", part, lost, count, suite=suite, lowest=-1.0, highest=1.0))
    return figures
