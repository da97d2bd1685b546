"""The demo: a small world with planted errors, built on first use, imported and scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from rewardscope.app.db.models import Run
from rewardscope.app.settings import Settings


def load(session: Session, settings: Settings) -> Run:
    """The run that fills the dashboard with the demo; the one that did or does so already."""
    raise NotImplementedError


def prepare(session: Session, run: Run, scratch: Path) -> dict[str, Any]:
    """The request of the job's process."""
    raise NotImplementedError


def store(session: Session, run: Run, attempt: int, chunk: Any) -> None:
    """The demo's job sends no chunks: it only tells how far it is."""
    raise NotImplementedError


def finish(session: Session, run: Run, result: dict[str, Any]) -> dict[str, Any]:
    """Imports the world's pairs, registers its models and submits its scoring; returns their ids as
    {"dataset_id", "run_id", "models": {...}}. May be repeated by another worker."""
    raise NotImplementedError
