"""What a job's process and whoever started it say to each other.

A job is a function `run(request, report) -> result` in a module of this package. Its process is asked with a
`Request` and answers with any number of `Report`s, each of which waits for a `Verdict`, and one ending:
`Result`, `Refusal` (the user's to mend), `Crash` (a bug) or `Stopped` (somebody cancelled). Knows no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from engine.types import Progress

END_OF_OUTPUT = "::rewardscope: end of job::"
"""The line that a process prints after each job, so that what it printed is known to be complete."""


class ReportCallable(Protocol):
    """How a running job speaks: stores what it found, shows that it lives, and hears whether to stop.

    Returns once everything is stored. Raises `Cancelled` when the job shall stop; let it pass.
    """

    def __call__(
        self, progress: Progress | None = None, chunk: object = None, message: str | None = None
    ) -> None: ...


class JobModule(Protocol):
    """A module that does one kind of job."""

    def run(self, request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
        """Do the job; `request` and what comes back are plain JSON."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """Do one job. `kind` names a module of `engine.jobs`, or any module by its dotted path."""

    kind: str
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """How far the job is, what it found since the last report, and what it has to say."""

    progress: Progress | None = None
    chunk: object = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a report: it is stored. `stop` asks the job to end as cancelled."""

    stop: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The job is done."""

    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The job met an `EngineError`: its code, and the sentence for the user."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Crash:
    """The job met a bug, or its process died."""

    detail: str
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """The job was asked to stop, and did."""


Ending = Result | Refusal | Crash | Stopped
