"""Scoring a text that belongs to no data set, through the warm scorer: the playground's run."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, model_validator
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from app.db.session import Database
from app.db.tables import Job, JobStatus, Run
from app.errors import Invalid, NotFound, Problem
from app.services.runs import jobs
from app.services.runs.kinds import RUN_KINDS, RunKind
from app.services.scorings.maps import cut
from app.services.scorings.requests import ScoringNumbers, find_models, resolve, score_request
from app.settings import Settings
from engine.errors import RowError
from engine.fields import StrictModel
from engine.formats.maps import map_record
from engine.formats.rows import row_to_pair
from engine.masks import answer
from engine.rules import SegmentationRequest, SegmentationRule
from engine.segmentation.statistics import RewardStatistics
from engine.types import RewardMap, ScoredChunk, Segmentation, Side

PLAYGROUND = "playground"
"""The kind of runs that score a text of no data set."""
SHOWN_PROMPT_CHARACTERS = 60
POLL_SECONDS = 0.05


class ChatMessage(StrictModel):
    """One turn of a conversational prompt."""

    role: str = Field(min_length=1, max_length=64)
    """Who speaks, as the model's chat template names them: `system`, `user`, `assistant`."""
    content: str = Field(max_length=1_000_000)
    """What they say."""


class ScoreTextRequest(ScoringNumbers):
    """The body of `POST /api/v1/scores`: a prompt, one or two responses, and what to score them with."""

    prompt: str | list[ChatMessage] = Field(max_length=1_000_000, title="Prompt")
    """A text, or messages that go through the model's chat template."""
    chosen: str | None = Field(None, min_length=1, max_length=1_000_000, title="Chosen response")
    """The preferred response, or the only one."""
    rejected: str | None = Field(None, min_length=1, max_length=1_000_000, title="Rejected response")
    """The other response."""

    @model_validator(mode="after")
    def _has_a_response(self) -> ScoreTextRequest:
        if self.chosen is None and self.rejected is None:
            raise ValueError("Give a chosen response, a rejected one, or both: there is none to score.")
        return self


def segment(request: SegmentationRequest) -> dict[str, Any]:
    """One response, cut and masked, as plain JSON; nothing is stored and no model asked. Raises RequestError
    where lengths contradict each other, or where the segmenter needs what is not given."""
    return answer(request)


def submit(session: Session, settings: Settings, request: ScoreTextRequest) -> Run:
    """A queued run of kind `playground`; its result will hold {"maps": [map record, ...], "lanes": [...]}:
    for each record what it leaves out, so that the page can show a response as those of pairs.

    Raises Invalid (a text that cannot be stored, a source without its model), ModelError, Forbidden.
    """
    row = _row(request)
    resolved = resolve(request, find_models(session, settings, request), columns=())
    name = f"Playground: {_beginning(request.prompt)}"
    return jobs.submit(
        session, kind=PLAYGROUND, name=name, request={**resolved, "pairs": [row]}, queue="interactive"
    )


def wait(database: Database, run_id: int, timeout_seconds: float) -> Run:
    """The run, with its job, as soon as the job is over or the time is. Raises NotFound.

    Opens short sessions of its own, so call it after the run was committed.
    """
    query = select(Run).where(Run.id == run_id).options(joinedload(Run.job), joinedload(Run.dataset))
    deadline = time.monotonic() + timeout_seconds
    while True:
        with database.session() as session:
            run = session.scalar(query)
        if run is None:
            raise NotFound(f"There is no run {run_id}; it was deleted, so score the text again.")
        left = deadline - time.monotonic()
        if JobStatus(run.job.status).is_over or left <= 0:
            return run
        time.sleep(min(POLL_SECONDS, left))


def prepare(session: Session, run: Run, scratch: Path) -> dict[str, Any]:
    """The request of the job's process; the text travels inside it."""
    return {"request": score_request(run.request), "pairs": run.request["pairs"]}


def store(session: Session, run: Run, attempt: int, chunk: ScoredChunk) -> None:
    """Keeps the map records with the run. Raises LostJob if the attempt does not hold the job.

    A text is scored anew by the next attempt, so there is no place to resume from.
    """
    job_id = session.scalars(select(Job.id).where(Job.run_id == run.id)).one()
    jobs.stored_up_to(session, job_id, attempt, 0)
    run.result = {"maps": _records(run, chunk.maps), "lanes": [_tracks_beside(one) for one in chunk.maps]}
    session.flush()


def finish(session: Session, run: Run, result: dict[str, Any]) -> dict[str, Any]:
    """What the run keeps as its result: the map records and the job's own figures."""
    return {**result, **(run.result or {})}


def _records(run: Run, maps: Sequence[RewardMap]) -> list[dict[str, Any]]:
    """The maps as `rewardscope score` writes them. Baselines and scales are these responses' own."""
    cuts: list[dict[str, Segmentation]] = [{} for _ in maps]
    for source in run.request["sources"]:
        name, rule = source["name"], SegmentationRule.model_validate(source["rule"])
        statistics = RewardStatistics()
        for one in maps:
            statistics.add(one.rewards[name])
        for one, by_source in zip(maps, cuts, strict=True):
            by_source[name] = cut(one, _text(run, one), name, rule, statistics)
    return [map_record(one, by_source, _text(run, one)) for one, by_source in zip(maps, cuts, strict=True)]


def read_map(record: dict[str, Any], beside: dict[str, Any]) -> RewardMap:
    """The reward map that was kept as a map record and the tracks beside it."""
    return RewardMap(
        key=record["id"],
        side=_side(record["side"]),
        token_ids=np.array(beside["token_ids"], dtype=np.int32),
        offsets=np.array(record["offsets"], dtype=np.int32).reshape(-1, 2),
        eos=beside["eos"],
        prompt_tokens=beside["prompt_tokens"],
        truncated_prompt_tokens=beside["truncated_prompt_tokens"],
        rewards={name: _array(track) for name, track in record["token_rewards"].items()},
        logprobs=_track(record["logprobs"]),
        reference_logprobs=_track(record["reference_logprobs"]),
        entropies=_track(record["entropies"]),
        ranks=None if beside["ranks"] is None else np.array(beside["ranks"], dtype=np.int32),
        totals=beside["totals"],
    )


def _tracks_beside(one: RewardMap) -> dict[str, Any]:
    return {
        "token_ids": one.token_ids.tolist(),
        "ranks": None if one.ranks is None else one.ranks.tolist(),
        "eos": one.eos,
        "prompt_tokens": one.prompt_tokens,
        "truncated_prompt_tokens": one.truncated_prompt_tokens,
        "totals": {name: total for name, total in one.totals.items() if math.isfinite(total)},
    }


def _array(track: Sequence[float | None]) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in track], dtype=np.float32)


def _track(track: Sequence[float | None] | None) -> np.ndarray | None:
    return None if track is None else _array(track)


def _side(word: str) -> Side:
    return "chosen" if word == "chosen" else "rejected"


def _text(run: Run, one: RewardMap) -> str:
    text: str = run.request["pairs"][0][one.side]
    return text


def _row(request: ScoreTextRequest) -> dict[str, Any]:
    """The request's texts as a canonical row. Raises Invalid where they cannot be one."""
    texts = request.model_dump(mode="json", include={"prompt", "chosen", "rejected"})
    row = {"id": "playground", **texts}
    try:
        row_to_pair(row)
    except RowError as error:
        field = error.field or "prompt"
        raise Invalid(
            f"The text cannot be scored: {error.reason}",
            errors=[Problem(("body", field), error.reason)],
        ) from error
    return row


def _beginning(prompt: str | list[ChatMessage]) -> str:
    text = prompt if isinstance(prompt, str) else prompt[-1].content if prompt else ""
    words = " ".join(text.split())
    return words if len(words) <= SHOWN_PROMPT_CHARACTERS else f"{words[:SHOWN_PROMPT_CHARACTERS]}…"


RUN_KINDS.register(
    RunKind(
        name=PLAYGROUND,
        word="playground",
        job="score",
        prepare=prepare,
        store=store,
        finish=finish,
        is_reported=False,
    )
)
