"""The loops compile, and go on where their cache cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.segmentation import machine_code
from engine.segmentation.compiled import compiled


def double(values: np.ndarray) -> float:
    return float(values.sum() * 2)


def test_a_loop_computes_what_its_python_says() -> None:
    assert compiled(double)(np.ones(3)) == double(np.ones(3)) == 6.0


def test_a_full_disk_costs_the_cache_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(self: object, *arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(machine_code.FunctionCache, "save_overload", no_space)
    monkeypatch.setattr(machine_code.FunctionCache, "load_overload", no_space)
    assert compiled(double)(np.ones(3)) == 6.0


def test_an_index_that_names_what_is_gone_is_begun_anew(tmp_path: Path) -> None:
    """Two processes, as two releases: the second one has another name for the class that a loop takes."""
    program = (
        "from typing import NamedTuple\n"
        "import numpy as np\n"
        "from engine.segmentation.compiled import compiled\n"
        "class {name}(NamedTuple):\n"
        "    values: np.ndarray\n"
        "@compiled\n"
        "def total(of): return of.values.sum()\n"
        "def run():\n"
        "    print(total({name}(np.ones(3))), len(total.dispatcher._cache._cache_file._load_index()))\n"
    )
    for name in ("Numbers", "Figures"):
        (tmp_path / "loops.py").write_text(program.format(name=name))
        finished = subprocess.run(
            [sys.executable, "-c", "import loops; loops.run()"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": f"{tmp_path}:{Path.cwd()}"},
        )
        assert finished.stdout == "3.0 1\n", finished.stderr


def test_no_writable_folder_at_all_costs_the_cache_and_nothing_else(tmp_path: Path) -> None:
    """A child process in which numba finds no folder for its cache; a file stands where one would be."""
    program = (
        "import numba.core.caching as caching\n"
        "def refuse(locator): raise OSError(30, 'Read-only file system')\n"
        "caching._CacheLocator.ensure_cache_path = refuse\n"
        "import numpy as np\n"
        "from engine.segmentation.statistics import RewardStatistics\n"
        "statistics = RewardStatistics()\n"
        "statistics.add(np.ones(3))\n"
        "print(statistics.mean)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert finished.stdout == "1.0\n", finished.stderr


def test_a_command_that_cuts_nothing_does_not_wait_for_numba() -> None:
    program = "import sys, app.cli, engine.rules; print('numba' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout == "False\n"
