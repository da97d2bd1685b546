"""Evaluates a model on preference pairs, on task suites, or on both, alone or against a reference."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from engine.errors import DataError, ModelError, RequestError, RowError
from engine.evaluation.answers import draw, given, options
from engine.evaluation.code import check_code_allowed
from engine.evaluation.divergence import divergence, token_divergences
from engine.evaluation.figures import figure
from engine.evaluation.preferences import ErrorsFoundTally, PreferenceTally, read_pairs, score_request
from engine.evaluation.request import EvaluationRequest, Figure
from engine.evaluation.success import success
from engine.evaluation.suites import suite_figures
from engine.formats import canonical
from engine.formats.reading import read_suite
from engine.jobs.protocol import ReportCallable
from engine.jobs.score import MOST_REFUSED, unscorable
from engine.language_models import LoadedModel, load_policy, memory_advice
from engine.ragged import Row
from engine.reading import fitting_threads, plan_of
from engine.scoring import OUT_OF_MEMORY, Models, check_one_tokenizer, fitted
from engine.tasks import Choice, Exact, Task
from engine.types import PreferencePair, Progress

DIVERGENCE_PROMPTS = 256
"""Prompts on which the policy speaks freely, for its divergence from the reference: evenly spaced."""
MOST_FREE_TOKENS = 512
"""Most new tokens of such a text: as many as the longest response of the rows has, up to here."""
_REPORT_PAIRS = 128

Suites = Mapping[str, Sequence[Task]]


def run(request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
    """Does `request["request"]` (an EvaluationRequest) on `rows`, a path of canonical JSONL or null, and on
    `suites`, [{"name", "path"}]; with `allow_code` suites may run what the model writes.

    Everything is read and checked before the first forward pass. Returns {"figures": [Figure as JSON],
    "seconds", "notes"}. Raises RequestError, ModelError, DataError, ResourceError, and Cancelled out of
    `report`.
    """
    began = time.monotonic()
    asked = _parsed(request.get("request"))
    rows = None if request.get("rows") is None else Path(request["rows"])
    suites = _suites_of(request.get("suites") or [], bool(request.get("allow_code", False)))
    if rows is None and not suites:
        raise RequestError("There is nothing to evaluate on; name rows, task suites, or both.")
    total = 0 if rows is None else _count(rows, report)
    report(progress=Progress("loading models", 0, None))
    models = _load(asked)
    assert models.policy is not None
    largest = max(models.loaded(), key=lambda loaded: loaded.info.parameters)
    with fitting_threads(largest), memory_advice(OUT_OF_MEMORY):
        for loaded in models.loaded():
            plan_of(loaded)
        job = _Evaluation(asked, models, bool(request.get("allow_code", False)), report)
        job.check(rows, total, suites)
        figures = job.figures(rows, total, suites)
    return {
        "figures": [one.model_dump(mode="json") for one in figures],
        "seconds": round(time.monotonic() - began, 3),
        "notes": job.notes,
    }


class _Evaluation:
    """One evaluation under way: its models, and what a reader of its figures should know."""

    def __init__(
        self, request: EvaluationRequest, models: Models, allow_code: bool, report: ReportCallable
    ) -> None:
        assert models.policy is not None
        self._request, self._models, self._report = request, models, report
        self._policy: LoadedModel = models.policy
        self._allow_code = allow_code
        self.notes: list[str] = []

    # -------------------------------------------------------------------------------- before any forward pass

    def check(self, rows: Path | None, total: int, suites: Suites) -> None:
        """Runs the tokenizers over everything; raises DataError or ModelError for what cannot be read."""
        for loaded in self._models.loaded():
            for note in loaded.notes:
                self._note(note)
        if rows is not None:
            self._check_rows(rows, total)
        for name, tasks in suites.items():
            self._check_suite(name, tasks)

    def _check_rows(self, rows: Path, total: int) -> None:
        numbers = score_request(self._request)
        refused = unscorable(canonical.read_pairs(rows), self._models, numbers, self._report, total=total)
        first: DataError | None = None
        many = 0
        for many, (_, reason) in enumerate(refused, start=1):
            first = first or reason
            self._report(message=str(reason))
            if many == MOST_REFUSED:
                break
        if first is not None and many == 1:
            raise first
        if first is not None:
            raise DataError(f"{many} rows cannot be evaluated; the log names them. The first: {first}")

    def _check_suite(self, name: str, tasks: Sequence[Task]) -> None:
        try:
            asked = given(self._policy, tasks)
            options(self._policy, [task for task in tasks if isinstance(task.checker, Choice)])
        except DataError as error:
            raise DataError(f"A task of the suite `{name}` cannot be asked. {error}") from error
        empty = [task.key for task, one in zip(tasks, asked, strict=True) if not len(one.ids)]
        if empty:
            raise DataError(
                f"The task `{empty[0]}` of the suite `{name}` gives the policy no token to begin with, for "
                "its tokenizer has no BOS; give it a prompt."
            )
        highest = max(int(one.ids.max()) for one in asked)
        smallest = min(self._models.loaded(), key=lambda loaded: loaded.vocab_size)
        if highest >= smallest.vocab_size:
            raise ModelError(
                f"The tokenizer makes the token {highest} of the suite `{name}`, but `{smallest.info.path}` "
                f"has only {smallest.vocab_size} embeddings; use the tokenizer that belongs to the model."
            )
        self._report(progress=Progress("checking the tasks", len(tasks), len(tasks), "tasks"))
        cut = sum(one.cut_tokens > 0 for one in asked)
        if cut:
            self._note(
                f"{cut:,} of {len(tasks):,} prompts of the suite `{name}` were cut from the left, so that "
                "the longest answer fits the context."
            )
        drawn = any(not isinstance(task.checker, Choice) for task in tasks)
        if drawn and self._policy.tokenizer.eos_token_id is None:
            self._note(
                f"The tokenizer has no EOS: every answer to the suite `{name}` runs to its most new tokens."
            )

    # ------------------------------------------------------------------------------------------ the figures

    def figures(self, rows: Path | None, total: int, suites: Suites) -> list[Figure]:
        """Everything that was asked for, pairs before suites."""
        figures = [] if rows is None else self._of_pairs(rows, total)
        for name, tasks in suites.items():
            figures += self._of_suite(name, tasks)
        if self._models.reference is not None:
            free = self._free_tasks(rows, total) or [task for tasks in suites.values() for task in tasks]
            figures += self._divergence(_spaced(free, DIVERGENCE_PROMPTS))
        return figures

    def _of_pairs(self, rows: Path, total: int) -> list[Figure]:
        preferences, errors = PreferenceTally(), ErrorsFoundTally(self._request.beta)
        numbers = score_request(self._request)
        for done, read in enumerate(read_pairs(canonical.read_pairs(rows), self._models, numbers), start=1):
            preferences.add(read)
            errors.add(read)
            if done % _REPORT_PAIRS == 0 or done == total:
                self._report(progress=Progress("reading the pairs", done, total))
        figures = [
            *preferences.figures(self._request.confidence),
            *errors.figures(self._request.confidence),
        ]
        for one in figures:
            if not one.part:
                self._report(message=_sentence(one))
        return figures

    def _of_suite(self, name: str, tasks: Sequence[Task]) -> list[Figure]:
        readers = self._models.loaded()
        total = len(tasks) * len(readers)
        shares = [
            success(
                loaded,
                tasks,
                samples=self._request.samples,
                temperature=self._request.temperature,
                top_p=self._request.top_p,
                seed=self._request.seed,
                token_budget=self._request.token_budget,
                allow_code=self._allow_code,
                tick=self._told(f"answering `{name}`", number * len(tasks), total),
            )
            for number, loaded in enumerate(readers)
        ]
        # A policy that is its own reference answers once.
        of_reference = None if self._models.reference is None else shares[-1]
        figures = suite_figures(name, tasks, shares[0], of_reference, self._request.confidence)
        for one in figures:
            if not one.part:
                self._report(message=_sentence(one))
        return figures

    def _told(self, phase: str, before: int, total: int) -> Callable[[int], None]:
        return lambda done: self._report(progress=Progress(phase, before + done, total, "tasks"))

    def _free_tasks(self, rows: Path | None, total: int) -> list[Task]:
        """The prompts of the rows as tasks without a check: what the policy says to them is only read."""
        if rows is None:
            return []
        every = max(1, total // DIVERGENCE_PROMPTS)
        pairs = [pair for at, pair in enumerate(canonical.read_pairs(rows)) if at % every == 0]
        numbers = score_request(self._request)
        longest = max((len(one.ids) for one in fitted(pairs, self._models, numbers)), default=1)
        return [_free_task(pair, min(longest, MOST_FREE_TOKENS)) for pair in pairs]

    def _divergence(self, tasks: Sequence[Task]) -> list[Figure]:
        """KL from the reference on texts that the policy draws at temperature 1, one a prompt."""
        policy, reference = self._policy, self._models.reference
        assert reference is not None
        sums: list[float] = []
        counts: list[int] = []
        for start in range(0, len(tasks), _REPORT_PAIRS):
            drawings = draw(
                policy,
                tasks[start : start + _REPORT_PAIRS],
                samples=1,
                temperature=1.0,
                top_p=1.0,
                seed=self._request.seed,
                token_budget=self._request.token_budget,
            )
            drawn = [(one.given, one.drawn[0].ids) for one in drawings]
            # A policy with more embeddings may say a token that the reference has never heard of.
            known = [one for one in drawn if len(one[1]) and int(one[1].max()) < reference.vocab_size]
            said = [Row(prompt, (response,)) for prompt, response in known]
            for kl in token_divergences(policy, reference, said, self._request.token_budget):
                sums.append(float(kl.sum(dtype=np.float64)))
                counts.append(len(kl))
            done = min(start + _REPORT_PAIRS, len(tasks))
            self._report(progress=Progress("measuring the divergence", done, len(tasks), "prompts"))
        found = divergence(sums, counts, self._request.confidence)
        one = figure("kl", "", found, sum(counts), lowest=0.0)
        self._report(message=_sentence(one))
        return [one]

    def _note(self, note: str) -> None:
        self.notes.append(note)
        self._report(message=note)


# ------------------------------------------------------------------------------------------------ the request


def _parsed(request: Any) -> EvaluationRequest:
    try:
        return EvaluationRequest.model_validate(request)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "request"
        raise RequestError(
            f"The field `{place}` of the evaluation request is refused: {first['msg']}."
        ) from error


def _suites_of(named: Sequence[Mapping[str, str]], allow_code: bool) -> dict[str, list[Task]]:
    suites: dict[str, list[Task]] = {}
    for one in named:
        name = one["name"]
        if name in suites:
            raise RequestError(f"The task suite `{name}` is named twice; name each suite once.")
        try:
            suites[name] = list(read_suite(Path(one["path"])))
        except RowError as error:
            raise DataError(f"The task suite `{name}` cannot be read: {error}") from error
        check_code_allowed(suites[name], allow_code)
    return suites


def _count(rows: Path, report: ReportCallable) -> int:
    """How many rows there are, each of them parsed."""
    count = 0
    for count, _ in enumerate(canonical.read_pairs(rows), start=1):
        if count % 1000 == 0:
            report(progress=Progress("reading the rows", count, None))
    if not count:
        raise DataError(f"`{rows}` holds no rows; send at least one.")
    return count


def _load(asked: EvaluationRequest) -> Models:
    policy = load_policy(asked.model, device=asked.device, dtype=asked.dtype)
    if asked.reference is None:
        return Models(policy=policy)
    reference = load_policy(asked.reference, device=asked.device, dtype=asked.dtype)
    check_one_tokenizer(policy, reference)
    return Models(policy=policy, reference=reference)


# ------------------------------------------------------------------------------------------------- divergence


def _free_task(pair: PreferencePair, most: int) -> Task:
    """The prompt of a pair as a task that nobody checks."""
    given = pair.prompt
    turns = [] if isinstance(given, str) else [{"role": one.role, "content": one.content} for one in given]
    prompt = given if isinstance(given, str) else turns
    return Task(key=pair.key, prompt=prompt, checker=Exact(answers=["-"]), max_new_tokens=most)


def _spaced(tasks: Sequence[Task], most: int) -> list[Task]:
    """At most so many of them, at even distances."""
    if len(tasks) <= most:
        return list(tasks)
    return [tasks[at * len(tasks) // most] for at in range(most)]


# ---------------------------------------------------------------------------------------------------- the log


def _sentence(one: Figure) -> str:
    """A figure in words."""
    what = one.metric.replace("_", " ")
    where = "" if one.suite is None else f" of the suite `{one.suite}`"
    if one.value is None:
        return f"{what}{where}: nothing to measure."
    between = "" if one.low is None or one.high is None else f" ({one.low:.3f} to {one.high:.3f})"
    against = "" if one.reference is None else f", of the reference {one.reference:.3f}"
    return f"{what}{where}: {one.value:.3f}{between}{against}."
