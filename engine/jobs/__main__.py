"""A job's own process: `python -m engine.jobs FD` does the jobs that come through the socket FD,
one after the other, until the other end closes it. What a job loaded stays loaded for the next one.

It dies with whoever started it: standard input is a pipe that nobody writes to and that ends with them.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import FrameType
from typing import cast

from engine.errors import Cancelled, EngineError
from engine.jobs.protocol import (
    END_OF_OUTPUT,
    Crash,
    Ending,
    JobModule,
    Refusal,
    Report,
    ReportCallable,
    Request,
    Result,
    Stopped,
    Verdict,
)
from engine.types import Progress


def serve(connection: Connection, terminator: Terminator) -> None:
    """Do every request that comes, until the connection ends."""
    while True:
        try:
            request = connection.recv()
        except (EOFError, ConnectionError):
            return
        with terminator.job():
            ending = perform(request, reporter(connection))
        sys.stderr.flush()
        sys.stdout.write(f"\n{END_OF_OUTPUT}\n")
        sys.stdout.flush()
        connection.send(ending)


def perform(request: Request, report: ReportCallable) -> Ending:
    """Do one job; how it ended, whatever happened."""
    try:
        return Result(job_module(request.kind).run(dict(request.request), report))
    except Cancelled:
        return Stopped()
    except EngineError as error:
        return Refusal(error.code, str(error))
    except MemoryError:
        return Refusal("out_of_resources", "The machine ran out of memory. Choose a smaller token budget.")
    except Exception as error:
        return Crash(
            f"The job met an unexpected error: {type(error).__name__}: {error}", traceback.format_exc()
        )


def job_module(kind: str) -> JobModule:
    """The module that does jobs of this kind."""
    return cast(JobModule, importlib.import_module(kind if "." in kind else f"engine.jobs.{kind}"))


def reporter(connection: Connection) -> ReportCallable:
    """A `report` that waits until what it sent is stored, and raises `Cancelled` when asked to stop."""

    def report(progress: Progress | None = None, chunk: object = None, message: str | None = None) -> None:
        connection.send(Report(progress, chunk, message))
        verdict: Verdict = connection.recv()
        if verdict.stop:
            raise Cancelled("The job was cancelled.")

    return report


def die_with_parent() -> None:
    """End this process at once when standard input ends, in whatever computation it may be."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="die with parent", daemon=True).start()


class Terminator:
    """What SIGTERM does: unwinds the job, so that it may remove what it left half done; between jobs it ends
    the process."""

    def __init__(self) -> None:
        self._in_job = False
        signal.signal(signal.SIGTERM, self._terminate)

    @contextmanager
    def job(self) -> Iterator[None]:
        """While a job is done."""
        self._in_job = True
        try:
            yield
        finally:
            self._in_job = False

    def _terminate(self, signal_number: int, frame: FrameType | None) -> None:
        if self._in_job:
            raise Cancelled("The job was cancelled.")
        raise SystemExit(0)


if __name__ == "__main__":
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's to hear; it tells us.
    serve(Connection(int(sys.argv[1])), Terminator())
