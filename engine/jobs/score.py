"""Scores the rows of a data set, or a few that come with the request, a chunk a report."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from engine.conversations import about_tools, writes_date
from engine.errors import DataError, RequestError
from engine.formats.canonical import read_pairs
from engine.formats.pairs import about_identical
from engine.formats.rows import row_to_pair
from engine.jobs.protocol import ReportCallable
from engine.reading import fitting_threads
from engine.requests import ScoreRequest
from engine.scoring import Models, check_request, load_models, refusals, score
from engine.sources import SOURCES
from engine.sources.registry import COLUMNS
from engine.types import PreferencePair, Progress, RewardMap, ScoredChunk

MESSAGE_SECONDS = 10.0
"""How often the speed goes to the log."""
MOST_REFUSED = 100
"""Rows that cannot be scored and are named."""


def run(request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
    """Scores `request["rows"]` (a path of canonical JSONL) from row `start` on, or `request["pairs"]` (rows).

    Reports each `ScoredChunk` in row order, without a gap; returns what was counted. Raises RequestError,
    ModelError, DataError, ResourceError, and Cancelled out of `report`.
    """
    asked = _parsed(request.get("request"))
    start = int(request.get("start", 0))
    pairs, total = _pairs_of(request, start)
    check_request(asked, tuple(COLUMNS))  # Each row tells what it lacks.
    report(progress=Progress("loading models", 0, None))
    models = load_models(asked)
    if "rows" in request:
        _refuse_early(_pairs_of(request, start)[0], models, asked, start, total, report)
    tally = Tally(start=start, total=total)
    for chunk in score_chunks(tally.watched(pairs), models, asked, report, start=start):
        tally.add(chunk)
        report(progress=Progress("scoring", chunk.end, total), chunk=chunk, message=tally.speed_if_due())
    notes = tally.notes(models)
    for note in notes:
        report(message=note)
    return {**tally.result(), "notes": notes}


def unscorable(
    pairs: Iterable[PreferencePair],
    models: Models,
    request: ScoreRequest,
    report: ReportCallable,
    *,
    start: int = 0,
    total: int | None = None,
) -> Iterator[tuple[PreferencePair, DataError]]:
    """The pairs that scoring would refuse, with the reasons, found by the tokenizers alone: a bad row at the
    end of a file is told before an hour of scoring."""
    rows, done = iter(pairs), start
    while chunk := list(itertools.islice(rows, request.chunk_pairs)):
        yield from refusals(chunk, models, request)
        done += len(chunk)
        report(progress=Progress("checking the tokens", done, total))


def _refuse_early(
    pairs: Iterable[PreferencePair],
    models: Models,
    request: ScoreRequest,
    start: int,
    total: int | None,
    report: ReportCallable,
) -> None:
    """Raises DataError where rows cannot be scored; the log names each of the first of them."""
    found = unscorable(pairs, models, request, report, start=start, total=total)
    reasons = [str(error) for _, error in itertools.islice(found, MOST_REFUSED)]
    if len(reasons) == 1:
        raise DataError(reasons[0])
    if reasons:
        for reason in reasons:
            report(message=reason)
        many = f"{len(reasons)} or more" if len(reasons) == MOST_REFUSED else str(len(reasons))
        raise DataError(f"{many} rows cannot be scored; the log names them. The first: {reasons[0]}")


def score_chunks(
    pairs: Iterable[PreferencePair],
    models: Models,
    request: ScoreRequest,
    report: ReportCallable | None = None,
    *,
    start: int = 0,
) -> Iterator[ScoredChunk]:
    """The pairs scored, `request.chunk_pairs` at a time and in order; memory holds one chunk.

    What the models are is told to `report` before the first chunk. `start` is the position of the first pair.
    """
    largest = max(models.loaded(), key=lambda loaded: loaded.info.parameters, default=None)
    with nullcontext() if largest is None else fitting_threads(largest):
        for message in _about(models, request):
            if report is not None:
                report(message=message)
        rows = iter(pairs)
        while chunk := list(itertools.islice(rows, request.chunk_pairs)):
            yield ScoredChunk(start, len(chunk), score(chunk, models, request))
            start += len(chunk)


# ------------------------------------------------------------------------------------------------ the request


def _parsed(request: Any) -> ScoreRequest:
    try:
        return ScoreRequest.model_validate(request)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "request"
        raise RequestError(
            f"The field `{place}` of the scoring request is refused: {first['msg']}."
        ) from error


def _pairs_of(request: dict[str, Any], start: int) -> tuple[Iterable[PreferencePair], int | None]:
    if "pairs" in request:
        given = [row_to_pair(row, line) for line, row in enumerate(request["pairs"], start=1)]
        return given[start:], len(given)
    if "rows" not in request:
        raise RequestError(
            "A scoring job needs `rows`, the path of its rows, or `pairs`, the rows themselves."
        )
    total = request.get("total")
    return read_pairs(Path(request["rows"]), start), None if total is None else int(total)


# ------------------------------------------------------------------------------------------- what is counted


@dataclass
class Tally:
    """What a job has scored so far, and what a reader should know of it."""

    start: int = 0
    total: int | None = None
    pairs: int = 0
    responses: int = 0
    tokens: int = 0
    truncated_prompts: int = 0
    beyond_context: int = 0
    unpredicted: int = 0
    identical: int = 0
    """Pairs whose sides say the same."""
    with_tools: int = 0
    """Pairs whose prompt brings tools."""
    began: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)

    def watched(self, pairs: Iterable[PreferencePair]) -> Iterator[PreferencePair]:
        """The pairs, counted as they are read."""
        for pair in pairs:
            self.identical += pair.says_the_same
            self.with_tools += pair.brings_tools
            yield pair

    def add(self, chunk: ScoredChunk) -> None:
        self.pairs += chunk.pairs
        for one in chunk.maps:
            self.responses += 1
            self.tokens += one.tokens
            self.truncated_prompts += one.truncated_prompt_tokens > 0
            self.beyond_context += _missing_at_end(one)
            self.unpredicted += one.prompt_tokens == 0 and one.token_ids[0] >= 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def speed_if_due(self) -> str | None:
        """A sentence for the log, once every few seconds."""
        if time.monotonic() - self.told < MESSAGE_SECONDS:
            return None
        self.told = time.monotonic()
        return f"{self.pairs:,} pairs scored, {self.tokens / max(self.seconds, 1e-9):,.0f} tokens a second."

    def notes(self, models: Models) -> list[str]:
        """Sentences on what a reader of the rewards should know."""
        notes = [about_identical(self.identical)] if self.identical else []
        for loaded in models.loaded():
            notes += about_tools(loaded.info.path, loaded.tokenizer, self.with_tools)
        if self.truncated_prompts:
            notes.append(
                f"{self.truncated_prompts:,} of {self.responses:,} responses were scored with a prompt cut "
                "from the left to fit the context."
            )
        if self.beyond_context:
            notes.append(
                f"{self.beyond_context:,} responses are longer than the context; their rewards beyond it are "
                "missing."
            )
        if self.unpredicted:
            notes.append(
                f"{self.unpredicted:,} responses have no prompt and the tokenizer no BOS; the rewards of "
                "their first tokens are missing."
            )
        return notes

    def result(self) -> dict[str, Any]:
        return {
            "pairs": self.pairs,
            "responses": self.responses,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
        }


def _missing_at_end(one: RewardMap) -> bool:
    """Whether a model did not see the last token."""
    if one.logprobs is not None:
        return bool(np.isnan(one.logprobs[-1])) and one.tokens > 1
    return one.tokens > 1 and any(
        math.isnan(rewards[-1]) for name, rewards in one.rewards.items() if SOURCES[name].models
    )


def _about(models: Models, request: ScoreRequest) -> Iterator[str]:
    """Sentences on the models, for the log."""
    for name in ("policy", "reference", "reward_model"):
        loaded = getattr(models, name)
        if loaded is None:
            continue
        dtype = str(loaded.dtype).removeprefix("torch.")
        yield (
            f"The {name.replace('_', ' ')} `{loaded.info.path}` ({loaded.info.architecture}, "
            f"{loaded.info.parameters:,} parameters) is on {loaded.device} in {dtype}."
        )
        yield from loaded.notes
        if writes_date(loaded.tokenizer):
            day = request.template_date or date.today()
            yield (
                f"The chat template of `{loaded.info.path}` writes today's date, for which it takes {day}; "
                "`template_date` says another one."
            )
    if models.policy is not None and models.policy is models.reference:
        yield "The policy is its own reference: it is read once, and every implicit reward is zero."
    if models.of_tokens is None:
        yield "The responses are cut into the tokens that they came with; no model is read."
    elif models.of_tokens.device.type == "cpu":
        threads = torch.get_num_threads()
        yield (
            f"{threads} thread{'s' if threads != 1 else ''}, float32 products at precision "
            f"`{torch.get_float32_matmul_precision()}`, {request.token_budget:,} tokens a pass."
        )
