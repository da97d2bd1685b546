"""A job's own process: `python -m rewardscope.engine.jobs FD` does the jobs that come through the socket FD,
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
from multiprocessing.connection import Connection
from types import FrameType
from typing import cast

from rewardscope.engine.errors import Cancelled, EngineError
from rewardscope.engine.jobs.protocol import (
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
from rewardscope.engine.types import Progress


def serve(connection: Connection) -> None:
    """Do every request that comes, until the connection ends or a signal asks for an end."""
    while True:
        try:
            request = connection.recv()
        except (EOFError, ConnectionError, Cancelled):
            return
        connection.send(perform(request, reporter(connection)))


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
    return cast(
        JobModule, importlib.import_module(kind if "." in kind else f"rewardscope.engine.jobs.{kind}")
    )


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


def stop(signal_number: int, frame: FrameType | None) -> None:
    """SIGTERM unwinds the job, so that it may remove what it left half done."""
    raise Cancelled("The job was cancelled.")


if __name__ == "__main__":
    die_with_parent()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's to hear; it tells us.
    serve(Connection(int(sys.argv[1])))
