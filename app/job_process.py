"""A job's process, seen from the worker: start it, ask it for a job, hear its reports, end it.

A model that crashes, leaks or is killed takes down this process and not the worker; however it dies, the
worker is told in a sentence.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import IO, Any

from engine.jobs.protocol import (
    END_OF_OUTPUT,
    Crash,
    Ending,
    Refusal,
    Report,
    Request,
    Result,
    Stopped,
    Verdict,
)
from rewardscope import launcher

GRACE_SECONDS = 1.5
"""Between asking a process to end (SIGTERM) and ending it (SIGKILL)."""
MAX_WAITING_LINES = 1000
"""Lines printed by the process that are kept until somebody takes them; older ones are dropped."""
SENTENCES = {
    signal.SIGKILL: "The job's process was killed, most often because the machine ran out of memory. "
    "Choose a smaller token budget or a smaller model, or a machine with more memory.",
    signal.SIGSEGV: "The job's process crashed in native code (segmentation fault). "
    "The last lines of its log may say where.",
    signal.SIGABRT: "The job's process gave up in native code (abort). "
    "The last lines of its log may say why.",
    signal.SIGBUS: "The job's process crashed in native code (bus error); a model file that was cut short, "
    "and full shared memory, are the usual reasons.",
}

ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    # Idle threads sleep rather than spin: spinning slows passes several times on cores that others use.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Bars that libraries draw on a terminal are noise in a log.
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
}
"""What a job's process finds in its environment, unless somebody set it otherwise."""

_SECRET = re.compile(
    r"^(?!REWARDSCOPE_PLUGINS$)REWARDSCOPE_|^PG|(^|_)TOKENS?(_|$)|SECRET|PASSW|PASSPHRASE|CREDENTIAL|(API|ACCESS|PRIVATE)_?KEY|_URL$",
    re.IGNORECASE,
)
_HOLDS_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")


def job_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a job's process: the worker's, without its settings and without what holds a secret
    by its name or by its value (an address with a password)."""
    kept = {
        name: value
        for name, value in environment.items()
        if not _SECRET.search(name) and not _HOLDS_PASSWORD.search(value)
    }
    return ENVIRONMENT | kept


class JobProcess:
    """One process that does one job at a time, and keeps what it loaded between jobs."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._reader: threading.Thread | None = None
        self._lines: deque[str] = deque(maxlen=MAX_WAITING_LINES)
        self._output_ended = threading.Event()
        self._stop_asked = False

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, kind: str, request: Mapping[str, Any]) -> None:
        """Ask for a job, in the process that is there or in a new one."""
        if not self.alive:
            self._launch()
        self._stop_asked = False
        self._output_ended.clear()
        assert self._connection is not None
        try:
            self._connection.send(Request(kind, dict(request)))
        except OSError:  # It died while idle: once more, with a new process.
            self._launch()
            self._connection.send(Request(kind, dict(request)))

    def poll(self, seconds: float) -> Report | Ending | None:
        """What the process says next; None when it says nothing for `seconds`."""
        assert self._connection is not None, "start() comes first"
        try:
            if not self._connection.poll(seconds):
                return None
            event = self._connection.recv()
        except (EOFError, OSError):
            return self._died()
        assert isinstance(event, Report | Result | Refusal | Crash | Stopped)
        if not isinstance(event, Report):
            self._output_ended.wait(GRACE_SECONDS)
        return event

    def answer(self, stop: bool = False) -> None:
        """Let the job go on after a report, or ask it to stop. A dead process says so at the next poll."""
        assert self._connection is not None, "a report came before"
        try:
            self._connection.send(Verdict(stop))
        except OSError:
            return

    def ask_to_stop(self) -> None:
        """Ask the process to end at once, in whatever computation it is."""
        self._stop_asked = True
        self._signal(signal.SIGTERM)

    def terminate(self) -> None:
        """End the process: asked first, then forced. Does nothing when there is none."""
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._close()

    def kill(self) -> None:
        """End the process by force."""
        self._signal(signal.SIGKILL)

    def take_lines(self) -> list[str]:
        """Lines that the process printed since they were last taken."""
        lines = []
        while self._lines:
            lines.append(self._lines.popleft())
        return lines

    def _launch(self) -> None:
        self.terminate()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*launcher.command("engine.jobs"), str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=job_environment(os.environ),
            )
        self._connection = Connection(ours.detach())
        assert self._process.stdout is not None
        self._reader = threading.Thread(
            target=self._read_lines, args=[self._process.stdout], name="job output", daemon=True
        )
        self._reader.start()

    def _read_lines(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._hear(line.decode("utf-8", "replace").rstrip())

    def _hear(self, line: str) -> None:
        if line == END_OF_OUTPUT:
            self._output_ended.set()
        elif line:
            self._lines.append(line)

    def _died(self) -> Ending:
        """How the process ended, once its end of the connection is closed."""
        assert self._process is not None
        try:
            code = self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        self._close()
        if self._stop_asked:
            return Stopped()
        return Crash(sentence_of_exit(code))

    def _signal(self, number: signal.Signals) -> None:
        """Signal the process and all that it started."""
        if self.alive and self._process is not None:
            os.killpg(self._process.pid, number)

    def _close(self) -> None:
        """Free what belongs to a process that has ended."""
        if self._reader is not None:
            self._reader.join(GRACE_SECONDS)
            self._reader = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None


def sentence_of_exit(code: int) -> str:
    """What an exit code means, for the user; a negative one is a signal, as subprocess has it."""
    if code >= 0:
        return f"The job's process ended with exit code {code} before it had a result. Its log may say why."
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"The job's process was ended by signal {-code}."
    return SENTENCES.get(number, f"The job's process was ended by the signal {number.name}.")
