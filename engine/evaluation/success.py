"""How often a policy answers the tasks of a suite rightly."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from engine.evaluation.answers import answers, likeliest_options
from engine.evaluation.checkers import passes
from engine.evaluation.code import check_code_allowed
from engine.language_models import LoadedModel
from engine.tasks import Choice, Task

ROWS_AT_A_TIME = 512
"""Answers drawn between two ticks; enough that rows of like length meet in a batch."""

Tick = Callable[[int], None]
"""Told how many tasks are answered; what it raises passes through."""


def success(
    loaded: LoadedModel,
    tasks: Sequence[Task],
    *,
    samples: int,
    temperature: float,
    top_p: float,
    seed: int,
    token_budget: int,
    allow_code: bool,
    tick: Tick | None = None,
) -> list[float]:
    """The share of right answers to every task, of `samples` drawn ones; at temperature 0 of the only one.

    Of a choice 1 or 0, by log-probabilities. The same seed gives two policies the same noise. Raises
    RequestError where tasks run code and nobody allowed it, and whatever the tokenizer refuses.
    """
    check_code_allowed(tasks, allow_code)
    shares: dict[int, float] = {}
    choices = [place for place, task in enumerate(tasks) if isinstance(task.checker, Choice)]
    others = [place for place, task in enumerate(tasks) if not isinstance(task.checker, Choice)]
    for chunk in _chunks(choices, ROWS_AT_A_TIME):
        found = likeliest_options(loaded, [tasks[place] for place in chunk], token_budget)
        for place, option in zip(chunk, found, strict=True):
            checker = tasks[place].checker
            assert isinstance(checker, Choice)
            shares[place] = float(option == checker.right)
        if tick is not None:
            tick(len(shares))
    samples = samples if temperature > 0 else 1
    for chunk in _chunks(others, max(1, ROWS_AT_A_TIME // samples)):
        asked = [tasks[place] for place in chunk]
        said = answers(
            loaded,
            asked,
            samples=samples,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            token_budget=token_budget,
        )
        for place, right in zip(chunk, _checked(asked, said), strict=True):
            shares[place] = sum(right) / len(right)
        if tick is not None:
            tick(len(shares))
    return [shares[place] for place in range(len(tasks))]


def _checked(tasks: Sequence[Task], said: Sequence[Sequence[str]]) -> list[list[bool]]:
    """Whether each answer is right; code runs on half of the processors, as its time is limited."""
    questions = [(task, answer) for task, row in zip(tasks, said, strict=True) for answer in row]
    if any(task.checker.kind == "code" for task in tasks):
        with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2)) as pool:
            verdicts = iter(list(pool.map(lambda one: passes(*one), questions)))
    else:
        verdicts = iter([passes(*one) for one in questions])
    return [[next(verdicts) for _ in row] for row in said]


def _chunks(places: Sequence[int], size: int) -> list[Sequence[int]]:
    return [places[start : start + size] for start in range(0, len(places), size)]
