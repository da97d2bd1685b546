"""One training in several processes of this machine: started by torchrun, of which the first one speaks.

    python -m torch.distributed.run ... -m rewardscope.launcher engine.jobs.train_processes REQUEST ADDRESS

Several machines, or a scheduler of one's own: `rewardscope train` may itself be started by torchrun or by
`accelerate launch`; every process then finds its rank in the environment, and the same code runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from engine.errors import Cancelled, EngineError
from engine.jobs.protocol import Crash, Ending, Refusal, Report, ReportCallable, Result, Stopped, Verdict
from engine.types import Progress

KEY = "REWARDSCOPE_TRAIN_KEY"
"""Where the started processes find the word by which they are known to the one that listens."""
POLL_SECONDS = 0.2
END_SECONDS = 15.0
"""How long the processes may take to end by themselves once there is a result."""


class TrainingRefused(EngineError):
    """What the first process refused, with its code."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        super().__init__(detail)


def launch(request: dict[str, Any], processes: int, report: ReportCallable) -> dict[str, Any]:
    """The training of `request`, shared by `processes` processes; forwards what the first of them reports.

    Raises what that one refuses, and RuntimeError where a process dies.
    """
    key = secrets.token_bytes(16)
    with tempfile.TemporaryDirectory(prefix="rewardscope-train-") as scratch:
        asked = Path(scratch) / "request.json"
        asked.write_text(json.dumps(request), encoding="utf-8")
        address = str(Path(scratch) / "socket")
        with (
            Listener(address, "AF_UNIX", authkey=key) as listener,
            _started(processes, asked, address, key) as torchrun,
            _accepted(listener, torchrun) as connection,
        ):
            return _follow(connection, torchrun, report)


@contextlib.contextmanager
def _started(processes: int, asked: Path, address: str, key: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """torchrun and its processes, which end with this block."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "torch.distributed.run", "--standalone", "--nnodes=1",
         f"--nproc-per-node={processes}", "--max-restarts=0",
         "-m", "rewardscope.launcher", "engine.jobs.train_processes", str(asked), address],
        env=os.environ | {KEY: key.hex(), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _accepted(listener: Listener, torchrun: subprocess.Popen[bytes]) -> Connection:
    """The first process's connection, once it speaks."""
    inner: Any = listener._listener._socket  # type: ignore[attr-defined]
    inner.settimeout(POLL_SECONDS)
    while True:
        try:
            connection = listener.accept()
        except TimeoutError:
            if torchrun.poll() is not None:
                raise _died(torchrun) from None
            continue
        return connection


def _follow(
    connection: Connection, torchrun: subprocess.Popen[bytes], report: ReportCallable
) -> dict[str, Any]:
    while True:
        try:
            if not connection.poll(POLL_SECONDS):
                if torchrun.poll() is not None and not connection.poll(0):
                    raise _died(torchrun)
                continue
            event: Report | Ending = connection.recv()
        except (EOFError, ConnectionError):
            raise _died(torchrun) from None
        if isinstance(event, Report):
            report(event.progress, event.chunk, event.message)  # Cancelled ends the processes on its way out.
            connection.send(Verdict())
        elif isinstance(event, Result):
            with contextlib.suppress(subprocess.TimeoutExpired):
                torchrun.wait(END_SECONDS)
            return event.result
        elif isinstance(event, Refusal):
            raise TrainingRefused(event.code, event.detail)
        elif isinstance(event, Stopped):
            raise Cancelled("The job was cancelled.")
        else:
            raise RuntimeError(event.traceback or event.detail)


def _died(torchrun: subprocess.Popen[bytes]) -> RuntimeError:
    code = torchrun.wait(10)
    return RuntimeError(
        f"One of the training's processes ended with exit code {code} before there was a result; the log "
        "says why. Out of memory is the usual reason: take a smaller token budget."
    )


# ------------------------------------------------------------------------------------------- in each process


def main(asked: str, address: str) -> None:
    """This process's part of the training; the first one tells what happens through the socket."""
    from engine.jobs.__main__ import perform, reporter
    from engine.jobs.protocol import Request

    request = json.loads(Path(asked).read_text(encoding="utf-8"))
    connection = None
    if int(os.environ["RANK"]) == 0:
        connection = Client(address, "AF_UNIX", authkey=bytes.fromhex(os.environ[KEY]))
    report = silent if connection is None else reporter(connection)
    ending = perform(Request("train", request), report)
    if connection is not None:
        connection.send(ending)
        connection.close()
    if isinstance(ending, Crash):
        print(ending.traceback or ending.detail, file=sys.stderr)  # noqa: T201 - goes to the job's log
    if not isinstance(ending, Result):
        sys.exit(1)


def silent(progress: Progress | None = None, chunk: object = None, message: str | None = None) -> None:
    """The report of a process that is not the first."""


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
