"""One attempt at a job: the worker's side of it, from the request to the ending.

Prepares the request, starts the job's process, stores what it reports, hears whether to stop, and writes how
it ended. Whatever goes wrong ends this attempt with a sentence and leaves the worker alone.
"""

from __future__ import annotations

import enum
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlalchemy.orm import Session

from app.db.session import Database
from app.db.tables import Job, JobStatus, Run
from app.errors import AppError, NotReady, sentence_of
from app.job_process import GRACE_SECONDS, JobProcess
from app.services.runs import jobs, runs
from app.services.runs.jobs import Claim, LostJob
from app.services.runs.kinds import RunKind
from engine.errors import EngineError
from engine.jobs.protocol import Crash, Ending, Refusal, Report, Result, Stopped

POLL_SECONDS = 0.2
"""How soon a job that reports nothing hears that it shall stop."""
LINES_SECONDS = 0.5
"""What the process prints is stored at most this often."""
MAX_OUTPUT_LINES = 2000
"""Printed lines that are kept of one attempt."""
PATIENCE_SECONDS = 60.0
"""How long a data base may be away before the attempt is given up."""

Answer = TypeVar("Answer")
log = structlog.get_logger(__name__)


class Stop(enum.Enum):
    """Why a running job shall stop."""

    cancel = "cancel"  # somebody cancelled the run
    hand_back = "hand_back"  # the worker stops; the job waits for another one


def nothing_follows(session: Session, run_id: int) -> None:
    """For a run that nobody waits for."""


class Attempt:
    """A claimed job, the process that does it, and whoever may stop it."""

    def __init__(
        self,
        database: Database,
        kinds: Mapping[str, RunKind],
        claim: Claim,
        process: JobProcess,
        device: str,
        should_stop: Callable[[], Stop | None],
        then: Callable[[Session, int], None] = nothing_follows,
    ) -> None:
        """`then` is called in the transaction in which the run succeeds, so that what follows is never
        missing."""
        self._database = database
        self._kinds = kinds
        self._claim = claim
        self._process = process
        self._device = device
        self._should_stop = should_stop
        self._then = then
        self._lines_kept = 0
        self._lines_at = 0.0
        self._stopping_since: float | None = None

    def run(self) -> None:
        """Do the job and store how it ended. Raises NotReady when the data base stays away."""
        try:
            self._run()
        except LostJob as error:
            self._process.terminate()
            log.warning("job_lost", reason=error.detail)

    def _run(self) -> None:
        try:
            ending = self._do()
            if isinstance(ending, Result):
                self._finish(ending)
        except (LostJob, NotReady):
            raise
        except (AppError, EngineError) as error:
            ending = Refusal(error.code, sentence_of(error))
        except Exception as error:
            log.exception("job_handling_failed")
            detail = f"The worker met an unexpected error: {type(error).__name__}: {error}"
            ending = Crash(detail, traceback.format_exc())
        self._leave(ending)

    def _do(self) -> Ending:
        """Prepare the job and follow its process to the end."""
        kind = self._kind()
        with tempfile.TemporaryDirectory(prefix="rewardscope-job-") as scratch:
            request = self._transact(
                lambda session: kind.prepare(session, self._get_run(session), Path(scratch))
            )
            self._process.take_lines()  # Whatever came after an earlier job is not this one's.
            self._process.start(kind.job, on_device(request, self._device))
            return self._follow(kind)

    def _follow(self, kind: RunKind) -> Ending:
        """Answer every report until the process ends the job, or is made to."""
        while True:
            event = self._process.poll(POLL_SECONDS)
            if isinstance(event, Report):
                stop = self._store(kind, event)
                self._process.answer(stop or self._should_stop() is not None)
                self._stopping_since = self._stopping_since or (time.monotonic() if stop else None)
                continue
            self._forward_lines(now=event is not None)
            if event is not None:
                return event
            if self._stops_by_force():
                return Stopped()

    def _stops_by_force(self) -> bool:
        """Ask a job that reports nothing to stop, where it shall; end it where it does not listen."""
        if self._should_stop() is None and self._stopping_since is None:
            return False
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
            self._process.ask_to_stop()
        if time.monotonic() - self._stopping_since < GRACE_SECONDS:
            return False
        self._process.kill()
        self._process.terminate()
        self._forward_lines(now=True)
        return True

    def _store(self, kind: RunKind, report: Report) -> bool:
        """Store a report in one transaction, progress with data; returns whether the job shall stop."""

        def store(session: Session) -> bool:
            stop = jobs.report(
                session, self._claim.job_id, self._claim.attempt, report.progress, report.message
            )
            if report.chunk is not None:
                run = self._get_run(session)
                if not is_stored(run.job, report.chunk):
                    kind.store(session, run, self._claim.attempt, report.chunk)
            return stop

        return self._transact(store)

    def _finish(self, ending: Result) -> None:
        """Let the service do what remains and end the job, in one transaction."""
        kind = self._kind()

        def finish(session: Session) -> None:
            result = kind.finish(session, self._get_run(session), ending.result)
            jobs.finish(session, self._claim.job_id, self._claim.attempt, result)
            self._then(session, self._claim.run_id)

        self._transact(finish)
        log.info("job_succeeded")

    def _leave(self, ending: Ending) -> None:
        """Write how a job ended that did not succeed."""
        job_id, attempt = self._claim.job_id, self._claim.attempt
        if isinstance(ending, Result):
            return
        if isinstance(ending, Stopped) and not self._was_asked_to_stop():
            ending = Crash("The job's process was asked to end (SIGTERM) by somebody else on its machine.")
        if isinstance(ending, Stopped):
            self._transact(lambda session: jobs.hand_back(session, job_id, attempt))
            log.info("job_stopped")
            return
        status = JobStatus.failed if isinstance(ending, Refusal) else JobStatus.crashed
        error = error_of(ending)
        self._process.terminate()
        self._transact(lambda session: jobs.fail(session, job_id, attempt, status, error))
        log.warning("job_" + status.value, code=error["code"], reason=error["detail"])

    def _was_asked_to_stop(self) -> bool:
        return self._stopping_since is not None or self._should_stop() is not None

    def _forward_lines(self, *, now: bool) -> None:
        """Put what the process printed into the job's log."""
        if not now and time.monotonic() - self._lines_at < LINES_SECONDS:
            return
        self._lines_at = time.monotonic()
        lines = self._process.take_lines()
        kept = lines[: MAX_OUTPUT_LINES - self._lines_kept]
        if len(kept) < len(lines) and self._lines_kept < MAX_OUTPUT_LINES:
            kept.append(f"The job printed more than {MAX_OUTPUT_LINES} lines; the rest is not kept.")
        if not kept:
            return
        self._lines_kept += len(kept)
        self._transact(
            lambda session: jobs.log(session, self._claim.job_id, self._claim.attempt, "output", kept)
        )

    def _kind(self) -> RunKind:
        kind = self._kinds.get(self._claim.kind)
        if kind is None:
            raise AppError(
                f"This worker does not know runs of kind `{self._claim.kind}`; "
                "start workers of the same release as the server.",
                code="unknown_kind",
            )
        return kind

    def _get_run(self, session: Session) -> Run:
        return runs.get_run(session, self._claim.run_id)

    def _transact(self, action: Callable[[Session], Answer]) -> Answer:
        return patiently(self._database, action)


def on_device(request: dict[str, Any], device: str) -> dict[str, Any]:
    """The job's request with `device` where it leaves open where models run: where its `request`, or that
    one's `machine`, has the device `auto`."""
    asked = request.get("request")
    if not isinstance(asked, dict):
        return request
    machine = asked.get("machine")
    if isinstance(machine, dict) and machine.get("device") == "auto":
        asked = {**asked, "machine": {**machine, "device": device}}
    if asked.get("device") == "auto":
        asked = {**asked, "device": device}
    return {**request, "request": asked}


def is_stored(job: Job, chunk: object) -> bool:
    """Whether the chunk came before: a transaction may have been committed though its answer was lost."""
    start = getattr(chunk, "start", None)
    return start is not None and start < job.resume_from


def error_of(ending: Refusal | Crash) -> dict[str, Any]:
    """What is kept of an ending that is no success."""
    if isinstance(ending, Refusal):
        return {"code": ending.code, "detail": ending.detail}
    error = {"code": "crashed", "detail": ending.detail}
    return error if ending.traceback is None else {**error, "traceback": ending.traceback}


def patiently(
    database: Database, action: Callable[[Session], Answer], seconds: float = PATIENCE_SECONDS
) -> Answer:
    """Do `action` in a transaction; once more, and again, while the data base is away."""
    give_up = time.monotonic() + seconds
    pause = 0.1
    while True:
        try:
            with database.session() as session:
                return action(session)
        except NotReady:
            if time.monotonic() + pause > give_up:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 2.0)
