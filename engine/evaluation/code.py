"""Whether code that a model wrote passes its test, found in a process of its own with bounded resources.

The process (`sandbox`) has no network, sees no other process and no file of the machine but Python's own
library, and has an empty folder in memory, an empty environment and its own session; memory, processor time
and files are bounded. Where the system grants no name spaces nothing is run, and the job says so. Code runs
only where an administrator allowed it. When its time is over, it is killed with all that it started.
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
from functools import cache
from pathlib import Path

from engine.errors import RequestError
from engine.tasks import Code, Task

STARTING_SECONDS = 5.0
"""Beside the time of the code, which the sandbox keeps: what starting it may take on a busy machine."""

_REFUSED = "refused: "
_FENCE = re.compile(r"```[a-zA-Z0-9_+-]*[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)


def check_code_allowed(tasks: Sequence[Task], allow_code: bool) -> None:
    """Raises RequestError where tasks run code and nobody allowed that."""
    if not allow_code and any(isinstance(task.checker, Code) for task in tasks):
        raise RequestError(
            "The task suite runs what the model writes as code; an administrator can allow that by setting "
            "REWARDSCOPE_ALLOW_CODE=true."
        )
    if any(isinstance(task.checker, Code) for task in tasks):
        check_code_runs()


@cache
def check_code_runs() -> None:
    """Raises RequestError where this machine cannot keep such code apart from everything else."""
    passes_test(Code(test="pass"), "")


def fenced(answer: str) -> str | None:
    """The code of the first fenced block of an answer, as chat models write it; None where there is none."""
    found = _FENCE.search(answer)
    return None if found is None else found[1] + "\n"


def passes_test(checker: Code, code: str) -> bool:
    """Whether `before`, the code and `test`, run as one program, come to their end without an error.

    Leaving early is no success: the end of the program says a word that the code is not told. Raises
    RequestError where the system refuses what keeps the code apart.
    """
    word = secrets.token_hex(16)
    program = f"{checker.before}{code}\n{checker.test}\n"
    hearing, saying = os.pipe()
    try:
        with tempfile.TemporaryDirectory(prefix="rewardscope-code-", ignore_cleanup_errors=True) as folder:
            order = {"program": program, "word": word, "seconds": checker.seconds, "folder": folder}
            _run(json.dumps(order), saying, checker.seconds + STARTING_SECONDS)
        os.set_blocking(hearing, False)
        with suppress(BlockingIOError):
            said = os.read(hearing, 512).decode(errors="replace")
            if said.startswith(_REFUSED):
                raise RequestError(
                    "This machine cannot keep the code that a model writes apart from everything else "
                    f"({said.removeprefix(_REFUSED)}), so none is run; evaluate suites of code on a Linux "
                    "worker that may make name spaces (in a container: user name spaces, or SYS_ADMIN)."
                )
            return said == word
        return False
    finally:
        os.close(hearing)
        os.close(saying)


def _run(order: str, saying: int, seconds: float) -> None:
    """Runs a program in the sandbox until it ends or its time is over."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-B", "-X", "utf8", str(Path(__file__).with_name("sandbox.py")), str(saying)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
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
