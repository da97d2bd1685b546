"""Success on task suites while a policy is being trained: small, with the same noise every time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from engine.evaluation.code import check_code_allowed
from engine.evaluation.success import success
from engine.formats.reading import read_suite
from engine.language_models import LoadedModel
from engine.tasks import Task

MOST_TASKS = 300
"""Tasks of a suite that one evaluation asks: evenly spaced, always the same."""
MOST_CATEGORIES = 12
"""Categories that have a curve of their own; a suite with more has one for all."""
SAMPLES = 2


class SuiteEvaluation:
    """What to call now and then: the figures of the suites by the names of their curves."""

    def __init__(self, paths: Mapping[str, Path], *, seed: int, token_budget: int, allow_code: bool) -> None:
        """Reads the suites. Raises RowError or DataError for one that cannot be read, RequestError where one
        runs code and nobody allowed it."""
        self._suites = {name: _spaced(list(read_suite(path))) for name, path in paths.items()}
        self._seed, self._token_budget, self._allow_code = seed, token_budget, allow_code
        for tasks in self._suites.values():
            check_code_allowed(tasks, allow_code)

    def __call__(self, loaded: LoadedModel) -> dict[str, float]:
        """`suite/<name>/all` and `suite/<name>/<category>`: shares of right answers at temperature 1."""
        figures = {}
        for name, tasks in self._suites.items():
            shares = success(
                loaded,
                tasks,
                samples=SAMPLES,
                temperature=1.0,
                top_p=1.0,
                seed=self._seed,
                token_budget=self._token_budget,
                allow_code=self._allow_code,
            )
            figures[f"suite/{name}/all"] = float(np.mean(shares))
            categories = sorted({task.category for task in tasks} - {""})
            for category in categories if len(categories) <= MOST_CATEGORIES else []:
                of_category = [s for s, task in zip(shares, tasks, strict=True) if task.category == category]
                figures[f"suite/{name}/{category}"] = float(np.mean(of_category))
        return figures


def _spaced(tasks: list[Task]) -> list[Task]:
    """At most MOST_TASKS of them, at even distances."""
    if len(tasks) <= MOST_TASKS:
        return tasks
    return [tasks[at * len(tasks) // MOST_TASKS] for at in range(MOST_TASKS)]
