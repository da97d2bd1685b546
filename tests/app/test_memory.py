from __future__ import annotations

import stat
from pathlib import Path

import psutil
import pytest

from app.memory import memory_of


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver's tool that knows one GPU of 80 GiB."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        '#!/bin/sh\n[ "$1" = "--id=0" ] && echo 81920 || { echo "No devices were found"; exit 6; }\n'
    )
    tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")


def test_a_cpu_has_the_machines_memory() -> None:
    found = memory_of("cpu")
    assert found is not None
    assert 0 < found <= psutil.virtual_memory().total


@pytest.mark.usefixtures("gpu")
def test_a_gpu_has_its_own() -> None:
    assert memory_of("cuda") == memory_of("cuda:0") == memory_of("auto") == 80 * 1024**3
    assert memory_of("cuda:1") is None


def test_without_a_gpu_auto_is_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert memory_of("auto") == memory_of("cpu")
    assert memory_of("cuda") is None
