"""Run kinds: what a kind of run is called, how it is done, and what else the product asks about it.

A kind declares itself once, where its noun's service is (`app/services/<noun>/`), by registering a `RunKind`.
The worker, webhooks, filters, the API's enum and clones ask `RUN_KINDS`; how a kind is shown is declared
by the pages (`app/pages/parts/kind_pages.py`). `app/services/run_kinds.py` finds all kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.db.tables import Run
from app.errors import Conflict
from engine.registry import Registry


def refuse_chunk(session: Session, run: Run, attempt: int, chunk: Any) -> None:
    """For kinds whose jobs report how far they are and no chunks."""
    raise ValueError(f"The job of a {run.kind} reported a chunk, of type {type(chunk).__name__}.")


def keep_result(session: Session, run: Run, result: dict[str, Any]) -> dict[str, Any]:
    """For kinds that keep what their job returned as it is."""
    return result


@dataclass(frozen=True, slots=True)
class Clone:
    """What asks for the same run once more."""

    noun: str
    """The noun of the API that it is sent to, such as `trainings`."""
    body: BaseModel


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKind:
    """A kind of run. None of its functions commits."""

    name: str
    """As `Run.kind` has it, and the API."""
    word: str
    """What people call it."""
    job: str
    """Its kind of job: a module of `engine.jobs`, or one by its dotted path."""
    prepare: Callable[[Session, Run, Path], dict[str, Any]]
    """The request of the job's process, which may read files in the given folder."""
    store: Callable[[Session, Run, int, Any], None] = refuse_chunk
    """Stores one chunk that the job reported in the given attempt."""
    finish: Callable[[Session, Run, dict[str, Any]], dict[str, Any]] = keep_result
    """Does what remains once the job is done, and returns the run's result."""
    clone: Callable[[Session, Run], Clone] | None = None
    """What asks for such a run again, to be changed first; None where nobody asks for it in such a way."""
    is_reported: bool = True
    """Whether webhooks report its end. Nobody needs that of a run that somebody waits for on its page."""
    has_curves: bool = False
    """Whether it leaves points of curves while it runs."""
    has_checkpoints: bool = False
    """Whether it leaves checkpoints in a folder of its own (`request["folder"]`), which goes with the run."""


RUN_KINDS: Registry[RunKind] = Registry("run_kinds")


def word_of(name: str) -> str:
    """What people call a kind; one that nothing declares any more by its name."""
    kind = RUN_KINDS.get(name)
    return name.replace("_", " ") if kind is None else kind.word


def has_curves(run: Run) -> bool:
    """Whether the run leaves points of curves."""
    kind = RUN_KINDS.get(run.kind)
    return kind is not None and kind.has_curves


def has_checkpoints(run: Run) -> bool:
    """Whether the run leaves checkpoints in a folder of its own."""
    kind = RUN_KINDS.get(run.kind)
    return kind is not None and kind.has_checkpoints


def clone(session: Session, run: Run) -> Clone:
    """What asks for the same run once more, to be changed first. Raises Conflict for a kind of run that
    nobody asks for in such a way."""
    kind = RUN_KINDS.get(run.kind)
    if kind is None or kind.clone is None:
        known = ", ".join(sorted(kind.name for kind in RUN_KINDS.values() if kind.clone is not None))
        raise Conflict(
            f"Run {run.id} is of the kind `{run.kind}`, which has no request to change; only {known} runs "
            "have one.",
            code="not_cloned",
        )
    return kind.clone(session, run)
