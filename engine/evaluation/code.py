"""Whether code that a model wrote passes its test, found in a process of its own with bounded resources.

The process (`sandbox`) has an empty folder to itself, an empty environment, its own session, a bounded
memory, processor time, file size and number of files. Where the system allows it, it has no network, sees no
other process, and is nobody where the worker is root; else it could still read and write what the worker's
user may, and reach the network. So code runs only where an administrator allowed it, and belongs on a machine
(or into a container) that holds no secrets. When its time is over, it is killed with all that it started.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from engine.errors import RequestError
from engine.tasks import Code, Task

STARTING_SECONDS = 5.0
"""Beside the time of the code, which the sandbox keeps: what starting it may take on a busy machine."""

_FENCE = re.compile(r"```[a-zA-Z0-9_+-]*[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)


def check_code_allowed(tasks: Sequence[Task], allow_code: bool) -> None:
    """Raises RequestError where tasks run code and nobody allowed that."""
    if not allow_code and any(isinstance(task.checker, Code) for task in tasks):
        raise RequestError(
            "The task suite runs what the model writes as code; an administrator can allow that by setting "
            "REWARDSCOPE_ALLOW_CODE=true on a machine that holds no secrets."
        )


def fenced(answer: str) -> str | None:
    """The code of the first fenced block of an answer, as chat models write it; None where there is none."""
    found = _FENCE.search(answer)
    return None if found is None else found[1] + "\n"


def passes_test(checker: Code, code: str) -> bool:
    """Whether `before`, the code and `test`, run as one program, come to their end without an error.

    Leaving early is no success: the end of the program says a word that the code is not told.
    """
    word = secrets.token_hex(16)
    program = f"{checker.before}{code}\n{checker.test}\n"
    order = json.dumps({"program": program, "word": word, "seconds": checker.seconds})
    hearing, saying = os.pipe()
    try:
        with tempfile.TemporaryDirectory(prefix="rewardscope-code-", ignore_cleanup_errors=True) as folder:
            Path(folder).chmod(0o777)
            _run(order, folder, saying, checker.seconds + STARTING_SECONDS)
        os.set_blocking(hearing, False)
        with suppress(BlockingIOError):
            return os.read(hearing, 64) == word.encode()
        return False
    finally:
        os.close(hearing)
        os.close(saying)


def _run(order: str, folder: str, saying: int, seconds: float) -> None:
    """Runs a program in the sandbox until it ends or its time is over."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-B", "-X", "utf8", str(Path(__file__).with_name("sandbox.py")), str(saying)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={},
        pass_fds=(saying,),
        start_new_session=True,
    )
    try:
        with suppress(subprocess.TimeoutExpired):
            process.communicate(order.encode(errors="replace"), timeout=seconds)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
