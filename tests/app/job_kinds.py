"""Kinds of jobs for tests of the worker and of job processes, named by this module's dotted path."""

# ruff: noqa: T201 - printing is what these jobs are watched for
from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ModelError
from engine.jobs.protocol import ReportCallable
from engine.types import Progress

NAME = "tests.app.job_kinds"


@dataclass(frozen=True)
class Counted:
    """A chunk of rows, as scoring reports them."""

    start: int
    values: list[int]


def run(request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
    return globals()[request["do"]](request, report)


def count(request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
    """Reports the numbers [start, total) in chunks of two; with `pause`, sleeps that long before each."""
    start, total = request.get("start", 0), request["total"]
    for position in range(start, total, 2):
        time.sleep(request.get("pause", 0))
        values = list(range(position, min(position + 2, total)))
        print(f"counted to {values[-1]}")
        report(Progress("count", values[-1] + 1, total), Counted(position, values), f"chunk {position}")
    return {"pid": os.getpid(), "counted": total - start, "torch": "torch" in sys.modules}


def refuse(request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
    raise ModelError("The folder has no weights; put model.safetensors there.")


def tell_environment(request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
    return {"names": sorted(os.environ)}


def raise_bug(request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
    raise KeyError("surprise")


def raise_unstorable(request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
    raise ModelError("The tensor \x00 is called \udc80.")


def exit_early(request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
    print("about to leave", flush=True)
    os._exit(3)


def segfault(request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
    ctypes.string_at(0)
    raise AssertionError("unreachable")


def kill_itself(request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def sleep(request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
    """Writes its process id to `path`, then never reports again; with `deaf`, hears no SIGTERM either."""
    if request.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(request["path"]).write_text(str(os.getpid()))
    time.sleep(600)
    return {}


def print_much(request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
    for line in range(request["lines"]):
        print(f"line {line} with a NUL \x00 and an unpaired byte", flush=False)
    subprocess.run(["echo", "a child speaks too"], check=True)
    return {}
