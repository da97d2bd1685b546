"""Scoring a text that belongs to no data set, through the warm scorer: the playground's run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.orm import Session

from rewardscope.app.db.models import Run
from rewardscope.app.db.session import Database
from rewardscope.app.services.scorings import ScoringNumbers
from rewardscope.app.settings import Settings


class ChatMessage(BaseModel):
    """One turn of a conversational prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    role: str = Field(min_length=1, max_length=64)
    content: str = Field(max_length=1_000_000)


class ScoreTextRequest(ScoringNumbers):
    """The body of `POST /api/v1/scores`: a prompt, one or two responses, and what to score them with."""

    prompt: str | list[ChatMessage] = Field(max_length=1_000_000)
    chosen: str | None = Field(None, min_length=1, max_length=1_000_000)
    rejected: str | None = Field(None, min_length=1, max_length=1_000_000)

    @model_validator(mode="after")
    def _has_a_response(self) -> ScoreTextRequest:
        if self.chosen is None and self.rejected is None:
            raise ValueError("Give `chosen`, `rejected` or both: there is no response to score.")
        return self


def submit(session: Session, settings: Settings, request: ScoreTextRequest) -> Run:
    """A queued run of kind `playground`; its result holds {"maps": [map record, ...]}. Raises Invalid (a source
    without its model), ModelError, Forbidden."""
    raise NotImplementedError


def wait(database: Database, run_id: int, timeout_seconds: float) -> Run:
    """The run, with its job, as soon as the job is over or the time is. Opens short sessions of its own, so call
    it after the run was committed."""
    raise NotImplementedError


def prepare(session: Session, run: Run, scratch: Path) -> dict[str, Any]:
    """The request of the job's process."""
    raise NotImplementedError


def store(session: Session, run: Run, attempt: int, chunk: Any) -> None:
    """Keeps the map records of a chunk with the run."""
    raise NotImplementedError


def finish(session: Session, run: Run, result: dict[str, Any]) -> dict[str, Any]:
    """What the run keeps as its result: the map records and the job's own figures."""
    raise NotImplementedError
