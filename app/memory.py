"""How much memory models can have on this machine: of its GPU, or of the machine. Asks no torch."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil

MIB = 1024 * 1024
SECONDS = 10.0
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where a container finds how much of its machine it may have."""


def memory_of(device: str) -> int | None:
    """Bytes that the device of a worker has in all (`auto`, `cpu`, `cuda`, `cuda:1`, `mps`); None where a GPU
    is named that nobody here can ask."""
    if device.startswith("cuda"):
        return _of_gpu(int(device.partition(":")[2] or 0))
    if device == "auto":
        return _of_gpu(0) or of_machine()
    return of_machine()


def of_machine() -> int:
    """Bytes of the machine, or of the container that we are in."""
    total = int(psutil.virtual_memory().total)
    for place in LIMITS:
        with suppress(OSError, ValueError):
            total = min(total, int(Path(place).read_text()))
    return total


def _of_gpu(number: int) -> int | None:
    """Bytes of an NVIDIA GPU, as its driver's own tool says; None where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, f"--id={number}", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
        return int(answer.stdout.split()[0]) * MIB
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
