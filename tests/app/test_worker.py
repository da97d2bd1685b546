from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import select, text

from app.attempt import Attempt, Stop, on_device
from app.db import migrate
from app.db.embedded import EmbeddedPostgres
from app.db.session import Database
from app.db.tables import Job, JobLog, Run, WorkerRow
from app.errors import NotReady
from app.job_process import JobProcess
from app.services.runs import jobs, runs, workers
from app.settings import Settings
from app.worker import Worker
from tests.app.worker_handlers import KINDS

ROOT = Path(__file__).parents[2]
GENEROUS_SECONDS = 60.0


@pytest.fixture
def counting(settings: Settings, database: Database) -> Iterator[Worker]:
    """A stepped worker of the tests' own kind of run."""
    worker = Worker(settings, database, KINDS)
    yield worker
    worker.close()


@pytest.fixture
def start_worker(database: Database) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts real worker processes, on `database` or another one, which are gone after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(url: str = database.url) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(ROOT / "tests/app/worker_handlers.py"), url]
        started.append(subprocess.Popen(command, cwd=ROOT))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
    for process in started:
        process.wait(GENEROUS_SECONDS)


# --------------------------------------------------------------------------------------- a stepped worker


def test_a_job_runs_and_leaves_its_result(counting: Worker, database: Database) -> None:
    run_id = _submit(database, do="count", total=5)
    assert counting.run_once()
    run = _run(database, run_id)
    assert run.job.status == "succeeded"
    assert run.result is not None
    assert run.result["numbers"] == [0, 1, 2, 3, 4]
    assert (run.job.phase, run.job.done, run.job.total, run.job.resume_from) == ("count", 5, 5, 5)
    assert not counting.run_once()


def test_what_a_job_says_and_prints_is_in_its_log(counting: Worker, database: Database) -> None:
    run_id = _submit(database, do="count", total=3)
    counting.run_once()
    lines = _log(database, run_id)
    assert [line.message for line in lines if line.level == "info"] == ["chunk 0", "chunk 2"]
    assert [line.message for line in lines if line.level == "output"] == ["counted to 1", "counted to 2"]


def test_a_job_that_prints_without_end_fills_no_data_base(counting: Worker, database: Database) -> None:
    run_id = _submit(database, do="print_much", lines=30_000)
    counting.run_once()
    assert _run(database, run_id).job.status == "succeeded"
    assert 0 < len(_log(database, run_id, limit=10_000)) <= 2001


@pytest.mark.parametrize(
    ("do", "status", "code", "words"),
    [
        ("refuse", "failed", "model_unusable", "put model.safetensors there"),
        ("raise_bug", "crashed", "crashed", "KeyError"),
        ("raise_unstorable", "failed", "model_unusable", "The tensor � is called ?."),
        ("exit_early", "crashed", "crashed", "exit code 3"),
        ("segfault", "crashed", "crashed", "segmentation fault"),
        ("kill_itself", "crashed", "crashed", "out of memory"),
    ],
)
def test_a_job_that_fails_gets_a_sentence_and_the_worker_lives(
    counting: Worker, database: Database, do: str, status: str, code: str, words: str
) -> None:
    bad, good = _submit(database, do=do), _submit(database, do="count", total=1)
    assert counting.run_once()
    job = _run(database, bad).job
    assert job.status == status
    assert job.error is not None
    assert job.error["code"] == code
    assert words in job.error["detail"]
    assert counting.run_once()
    assert _run(database, good).job.status == "succeeded"


def test_a_job_that_cannot_be_prepared_fails_with_the_sentence(counting: Worker, database: Database) -> None:
    run_id = _submit(database, do="count", prepare="refuse")
    counting.run_once()
    job = _run(database, run_id).job
    assert (job.status, job.error) == (
        "failed",
        {"code": "conflict", "detail": "The data set is gone; choose another one."},
    )


def test_a_kind_that_the_worker_does_not_know_fails(counting: Worker, database: Database) -> None:
    with database.session() as session:
        run_id = jobs.submit(session, kind="unheard_of", name="x", request={}).id
    counting.run_once()
    assert _run(database, run_id).job.error["code"] == "unknown_kind"


@pytest.mark.parametrize("asked", [{"device": "auto"}, {"machine": {"device": "auto", "processes": 2}}])
def test_a_request_that_leaves_the_device_open_gets_the_workers(asked: dict[str, Any]) -> None:
    found = on_device({"request": asked, "rows": "rows.jsonl"}, "cuda:1")
    assert found["rows"] == "rows.jsonl"
    assert (found["request"].get("machine") or found["request"])["device"] == "cuda:1"
    assert on_device(found, "cpu") == found


def test_interactive_jobs_share_a_process_and_others_do_not(counting: Worker, database: Database) -> None:
    pids = {}
    for queue in ("interactive", "default"):
        ids = [_submit(database, queue=queue, do="count", total=1) for _ in range(2)]
        while counting.run_once():
            pass
        pids[queue] = [(_run(database, run_id).result or {})["pid"] for run_id in ids]
    assert pids["interactive"][0] == pids["interactive"][1]
    assert pids["default"][0] != pids["default"][1]


def test_a_retry_goes_on_where_the_failed_attempt_stored_last(counting: Worker, database: Database) -> None:
    run_id = _submit(database, do="count", total=6)
    with database.session() as session:
        run = runs.get_run(session, run_id)
        run.result = {"numbers": [0, 1]}
        claim = jobs.claim(session, run.job.id, "another")
        assert claim is not None
        jobs.stored_up_to(session, run.job.id, claim.attempt, 2)
        jobs.fail(session, run.job.id, claim.attempt, "crashed", {"code": "crashed", "detail": "Died."})
        jobs.retry(session, run_id)
    while counting.run_once():
        pass
    run = _run(database, run_id)
    assert run.result is not None
    assert run.result["numbers"] == [0, 1, 2, 3, 4, 5]
    assert run.job.attempt == 2


def test_an_attempt_that_lost_its_job_stores_nothing_more(database: Database) -> None:
    run_id = _submit(database, do="count", total=40, pause=0.02)
    with database.session() as session:
        claim = jobs.claim(session, runs.get_run(session, run_id).job.id, "slow")
    assert claim is not None
    process = JobProcess()

    def hand_the_job_to_another() -> Stop | None:
        job = _job(database, run_id)
        if job.resume_from == 6 and job.attempt == 1:
            with database.session() as session:
                jobs.hand_back(session, claim.job_id, claim.attempt)
                assert jobs.claim(session, claim.job_id, "quick") is not None
        return None

    Attempt(database, KINDS, claim, process, "cpu", hand_the_job_to_another).run()
    run = _run(database, run_id)
    assert (run.job.status, run.job.attempt, run.job.worker_name) == ("running", 2, "quick")
    assert run.result == {"numbers": [0, 1, 2, 3, 4, 5]}
    assert not process.alive


def test_the_worker_imports_no_torch() -> None:
    script = (
        "import sys, app.worker\n"
        "heavy = {'torch', 'transformers', 'datasets'} & set(sys.modules)\n"
        "sys.exit(f'the worker imports {heavy}' if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# ------------------------------------------------------------------------------------- worker processes


def test_a_killed_workers_job_is_taken_up_by_another_and_nothing_is_doubled(
    database: Database, start_worker: Callable[[], subprocess.Popen[bytes]]
) -> None:
    run_id = _submit(database, do="count", total=60, pause=0.3)
    first = start_worker()
    _wait_until(lambda: _job(database, run_id).resume_from >= 4)
    children = psutil.Process(first.pid).children(recursive=True)
    os.kill(first.pid, signal.SIGKILL)
    stored = _job(database, run_id).resume_from
    start_worker()
    _wait_until(lambda: not any(child.is_running() for child in children))
    _wait_until(lambda: _job(database, run_id).status == "succeeded")
    run = _run(database, run_id)
    assert run.result is not None
    assert run.result["numbers"] == list(range(60))
    assert run.result["counted"] <= 60 - stored, "the second attempt began after what the first had stored"
    assert run.job.attempt == 2
    assert any("is gone" in line.message for line in _log(database, run_id))


def test_a_running_job_is_cancelled_within_seconds_even_when_it_never_reports(
    database: Database, tmp_path: Path, start_worker: Callable[[], subprocess.Popen[bytes]]
) -> None:
    run_id = _submit(database, do="sleep", path=str(tmp_path / "pid"), deaf=True)
    start_worker()
    _wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    pid = int((tmp_path / "pid").read_text())
    with database.session() as session:
        jobs.cancel(session, run_id)
    _wait_until(lambda: _job(database, run_id).status == "cancelled", seconds=20)
    assert not psutil.pid_exists(pid)


def test_a_worker_that_is_told_to_stop_hands_its_job_back(
    database: Database, start_worker: Callable[[], subprocess.Popen[bytes]]
) -> None:
    run_id = _submit(database, do="count", total=1000, pause=0.1)
    worker = start_worker()
    _wait_until(lambda: _job(database, run_id).resume_from >= 2)
    worker.terminate()
    assert worker.wait(GENEROUS_SECONDS) == 0
    job = _job(database, run_id)
    assert (job.status, job.attempt, job.worker_name) == ("queued", 1, None)
    with database.session() as session:
        assert session.scalars(select(WorkerRow)).all() == []
        rows = session.scalars(text("SELECT status::text FROM procrastinate_jobs")).all()
    assert rows == ["todo"]


def test_two_workers_share_the_jobs_and_never_one_of_them(
    database: Database, start_worker: Callable[[], subprocess.Popen[bytes]]
) -> None:
    ids = [_submit(database, do="count", total=4, pause=0.2) for _ in range(6)]
    for _ in range(2):
        start_worker()
    _wait_until(lambda: _alive(database) == 2)
    _wait_until(lambda: all(_job(database, run_id).status == "succeeded" for run_id in ids))
    for run_id in ids:
        run = _run(database, run_id)
        assert run.job.attempt == 1
        assert run.result is not None
        assert run.result["numbers"] == [0, 1, 2, 3]


def test_a_job_goes_on_when_its_embedded_data_base_was_killed(
    start_worker: Callable[..., subprocess.Popen[bytes]],
) -> None:
    with tempfile.TemporaryDirectory(prefix="rewardscope-worker-") as folder:
        server = EmbeddedPostgres(Path(folder), {"fsync": "off"})
        database = Database.connect(server.start())
        try:
            migrate.upgrade(database.url)
            run_id = _submit(database, do="count", total=40, pause=0.1)
            worker = start_worker(database.url)
            _wait_until(lambda: _run(database, run_id).job.done > 4)
            os.kill(int((server.folder / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
            _wait_until(lambda: _succeeded(database, run_id))
            run = _run(database, run_id)
            assert run.job.attempt == 1
            assert run.result is not None
            assert run.result["numbers"] == list(range(40))
            worker.terminate()
            worker.wait(GENEROUS_SECONDS)
        finally:
            database.dispose()
            server.stop()


def _succeeded(database: Database, run_id: int) -> bool:
    try:
        return bool(_run(database, run_id).job.status == "succeeded")
    except NotReady:  # The data base comes back.
        return False


def _submit(database: Database, *, queue: str = "default", **request: Any) -> int:
    with database.session() as session:
        return jobs.submit(session, kind="test", name="a test", request=request, queue=queue).id


def _run(database: Database, run_id: int) -> Run:
    with database.session() as session:
        return runs.get_run(session, run_id)


def _job(database: Database, run_id: int) -> Job:
    return _run(database, run_id).job


def _log(database: Database, run_id: int, limit: int = 500) -> list[JobLog]:
    with database.session() as session:
        return list(jobs.logs(session, run_id, limit=limit))


def _alive(database: Database) -> int:
    with database.session() as session:
        return workers.count_alive(session)


def _wait_until(condition: Callable[[], bool], seconds: float = GENEROUS_SECONDS) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "it did not happen in time"
        time.sleep(0.05)
