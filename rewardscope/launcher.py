"""Starts processes of our own with the four rooms first on the path.

`app`, `engine`, `web` and `migrations` are names that anybody's program may have, so an installation keeps
them inside `rewardscope/_server`, where no import finds them until a process of ours, and only such a one,
puts that folder first. In a checkout they stand beside `rewardscope`.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_INSTALLED = _HERE / "_server"
ROOMS = _INSTALLED if _INSTALLED.is_dir() else _HERE.parent
"""The folder that holds the four rooms."""


def enter() -> None:
    """Puts the rooms first on the path, before whatever a user's PYTHONPATH or working folder holds."""
    sys.path[:] = [str(ROOMS), *(place for place in sys.path if place != str(ROOMS))]


def command(module: str) -> list[str]:
    """How a child runs a module of the rooms: `-P`, since its working folder is not ours to import from."""
    return [sys.executable, "-P", "-m", "rewardscope.launcher", module]


if __name__ == "__main__":
    enter()
    module = sys.argv[1]
    sys.argv[:] = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
