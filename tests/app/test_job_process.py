from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.job_process import JobProcess, sentence_of_exit
from engine.jobs.protocol import Crash, Ending, Refusal, Report, Result, Stopped
from tests.app import job_kinds


@pytest.fixture
def process() -> Iterator[JobProcess]:
    process = JobProcess()
    yield process
    process.terminate()


def test_a_job_reports_in_order_and_returns_its_result(process: JobProcess) -> None:
    reports, ending = _do(process, do="count", total=5)
    assert [report.chunk.values for report in reports] == [[0, 1], [2, 3], [4]]
    assert [report.message for report in reports] == ["chunk 0", "chunk 2", "chunk 4"]
    assert isinstance(ending, Result)
    assert ending.result["counted"] == 5
    assert not ending.result["torch"]


def test_a_process_stays_for_the_next_job(process: JobProcess) -> None:
    endings = [_do(process, do="count", total=1)[1] for _ in range(2)]
    assert endings[0].result["pid"] == endings[1].result["pid"]


def test_a_job_is_told_no_secret(process: JobProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "REWARDSCOPE_TOKEN": "x",
        "REWARDSCOPE_DATABASE_URL": "x",
        "PGPASSWORD": "x",
        "HF_TOKEN": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "OPENAI_API_KEY": "x",
        "SENTRY_DSN": "https://name:word@host/1",
    }
    needed = {"REWARDSCOPE_PLUGINS": "", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "0"}
    for name, value in (secrets | needed).items():
        monkeypatch.setenv(name, value)

    _, ending = _do(process, do="tell_environment")

    assert isinstance(ending, Result)
    assert secrets.keys().isdisjoint(ending.result["names"])
    assert needed.keys() <= set(ending.result["names"])


def test_what_a_job_prints_becomes_lines(process: JobProcess) -> None:
    _do(process, do="print_much", lines=3)
    process.terminate()
    lines = process.take_lines()
    assert lines[0].startswith("line 0")
    assert lines[-1] == "a child speaks too"
    assert process.take_lines() == []


def test_endless_printing_is_bounded(process: JobProcess) -> None:
    _do(process, do="print_much", lines=20_000)
    process.terminate()
    assert 0 < len(process.take_lines()) <= 1000


def test_a_refusal_keeps_its_sentence_and_the_process(process: JobProcess) -> None:
    _, ending = _do(process, do="refuse")
    assert ending == Refusal("model_unusable", "The folder has no weights; put model.safetensors there.")
    assert process.alive


def test_a_bug_carries_its_traceback(process: JobProcess) -> None:
    _, ending = _do(process, do="raise_bug")
    assert isinstance(ending, Crash)
    assert ending.traceback is not None
    assert "raise_bug" in ending.traceback


@pytest.mark.parametrize(
    ("do", "words"),
    [("exit_early", "exit code 3"), ("segfault", "segmentation fault"), ("kill_itself", "out of memory")],
)
def test_a_process_that_dies_gets_a_sentence_and_a_successor(
    process: JobProcess, do: str, words: str
) -> None:
    _, ending = _do(process, do=do)
    assert isinstance(ending, Crash)
    assert words in ending.detail
    assert not process.alive
    _, ending = _do(process, do="count", total=1)
    assert isinstance(ending, Result)


def test_a_kind_that_does_not_exist_is_a_crash_that_names_it(process: JobProcess) -> None:
    process.start("no_such_kind", {})
    _, ending = _listen(process)
    assert isinstance(ending, Crash)
    assert "no_such_kind" in ending.detail


def test_a_job_stops_at_the_report_that_is_answered_with_stop(process: JobProcess) -> None:
    process.start(job_kinds.NAME, {"do": "count", "total": 100})
    assert isinstance(process.poll(30), Report)
    process.answer(stop=True)
    assert process.poll(30) == Stopped()
    assert process.alive


def test_a_job_that_computes_stops_when_asked(process: JobProcess, tmp_path: Path) -> None:
    _start_sleeping(process, tmp_path / "pid")
    process.ask_to_stop()
    assert process.poll(30) == Stopped()


def test_a_job_that_does_not_listen_is_ended_by_force(process: JobProcess, tmp_path: Path) -> None:
    pid = _start_sleeping(process, tmp_path / "pid", deaf=True)
    process.terminate()
    assert not psutil.pid_exists(pid)


def test_a_process_dies_with_the_one_that_started_it(tmp_path: Path) -> None:
    script = (
        "import sys, time; from app.job_process import JobProcess\n"
        "p = JobProcess()\n"
        f"p.start('{job_kinds.NAME}', {{'do': 'sleep', 'path': sys.argv[1], 'deaf': True}})\n"
        "time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "pid")])
    child = _pid_in(tmp_path / "pid")
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    _wait_until(lambda: not psutil.pid_exists(child))


@pytest.mark.parametrize(("code", "words"), [(0, "exit code 0"), (-15, "SIGTERM"), (-250, "signal 250")])
def test_every_exit_code_has_a_sentence(code: int, words: str) -> None:
    assert words in sentence_of_exit(code)


def _do(process: JobProcess, **request: Any) -> tuple[list[Report], Ending]:
    process.start(job_kinds.NAME, request)
    return _listen(process)


def _listen(process: JobProcess) -> tuple[list[Report], Ending]:
    """All reports, answered, and the ending."""
    reports = []
    while True:
        event = process.poll(30)
        assert event is not None
        if not isinstance(event, Report):
            return reports, event
        reports.append(event)
        process.answer()


def _start_sleeping(process: JobProcess, path: Path, **request: Any) -> int:
    process.start(job_kinds.NAME, {"do": "sleep", "path": str(path), **request})
    return _pid_in(path)


def _pid_in(path: Path) -> int:
    _wait_until(lambda: path.exists() and path.read_text() != "")
    return int(path.read_text())


def _wait_until(condition: Any, seconds: float = 30) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)
