"""`up` and `serve` as processes: they answer whatever hangs in them, and end when they are told to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from app.db.session import libpq_url
from tests.conftest import TOKEN

STARTED_WITHIN = 60.0
HUNG = 50
"""Requests that hang: more than there are threads or connections to the data base."""


@dataclass
class Process:
    """A server that runs."""

    process: subprocess.Popen[bytes]
    url: str
    port: int

    def get(self, path: str, seconds: float = 30.0) -> httpx.Response:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return httpx.get(self.url + path, headers=headers, timeout=seconds, trust_env=False)

    def signal(self, *numbers: signal.Signals) -> float:
        """Send these, a moment apart; seconds from the last one until the process has ended."""
        for number in numbers:
            time.sleep(0.3)
            self.process.send_signal(number)
        began = time.monotonic()
        self.process.wait(30)
        return time.monotonic() - began


@contextmanager
def run(*arguments: str) -> Iterator[Process]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "rewardscope", *arguments, "--port", str(port)],
        env=os.environ | {"REWARDSCOPE_TOKEN": TOKEN},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    found = Process(process, f"http://127.0.0.1:{port}", port)
    try:
        wait_until(lambda: answers(found, "/healthz"), STARTED_WITHIN)
        yield found
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def served(database_url: str, database: object, tmp_path: Path) -> Iterator[Process]:
    """`rewardscope serve` on the data base of the tests."""
    with run("serve", "--database-url", database_url, "--data-dir", str(tmp_path)) as found:
        yield found


@pytest.fixture
def hung(served: Process, database_url: str) -> Iterator[Process]:
    """A server in which requests hang, because somebody holds a lock in its data base."""
    with psycopg.connect(libpq_url(database_url)) as connection:
        connection.execute("LOCK TABLE datasets IN ACCESS EXCLUSIVE MODE")
        threads = [threading.Thread(target=ask_in_vain, args=[served], daemon=True) for _ in range(HUNG)]
        for thread in threads:
            thread.start()
        time.sleep(1.0)
        yield served
        served.process.kill()
        connection.rollback()
    for thread in threads:
        thread.join()


def ask_in_vain(server: Process) -> None:
    try:
        server.get("/api/v1/datasets", 60.0)
    except httpx.HTTPError:
        return


def answers(server: Process, path: str) -> bool:
    try:
        return server.get(path, 5.0).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not happen in time"
        time.sleep(0.05)
    return time.monotonic() - began


def test_the_server_says_that_it_lives_and_is_not_ready_whatever_hangs(hung: Process) -> None:
    began = time.monotonic()
    assert hung.get("/healthz", 5.0).json() == {"status": "ok"}
    assert time.monotonic() - began < 2.0
    answer = hung.get("/readyz", 9.0)
    assert answer.status_code == 503
    assert answer.json()["code"] == "not_ready"
    assert hung.get("/healthz", 2.0).status_code == 200


def test_one_signal_ends_a_server_in_which_requests_hang_within_ten_seconds(hung: Process) -> None:
    assert hung.signal(signal.SIGTERM) < 10.0
    assert hung.process.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    "numbers",
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)],
    ids=["TERM-TERM", "INT-INT", "TERM-INT"],
)
def test_a_second_signal_ends_it_at_once(hung: Process, numbers: tuple[signal.Signals, ...]) -> None:
    assert hung.signal(*numbers) < 1.5


def test_an_upload_that_is_under_way_when_the_server_stops_is_told_so(served: Process) -> None:
    head = (
        "POST /api/v1/datasets HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Length: 1000000\r\n"
        "Content-Type: multipart/form-data; boundary=xyz\r\n\r\n"
        '--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{"prompt": "'
    )
    with socket.create_connection(("127.0.0.1", served.port), 20) as connection:
        connection.sendall(head.encode())
        time.sleep(0.5)
        served.process.send_signal(signal.SIGTERM)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert (
        b"The server is being stopped, and nothing of this request was kept; send it again later." in answer
    )
    assert served.process.wait(10) == 128 + signal.SIGTERM


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder with a short path that the server's user may enter."""
    with tempfile.TemporaryDirectory(prefix="rewardscope-serving-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def postmaster(folder: Path) -> psutil.Process:
    return psutil.Process(int((folder / "postgres" / "postmaster.pid").read_text().split()[0]))


def is_another(folder: Path, pid: int) -> bool:
    try:
        return postmaster(folder).pid != pid
    except (psutil.NoSuchProcess, OSError, IndexError):
        return False


def test_a_killed_data_base_comes_back_by_itself_and_a_signal_stops_everything(
    folder: Path,
) -> None:
    with run("up", "--data-dir", str(folder)) as server:
        assert server.get("/readyz").status_code == 200
        killed = postmaster(folder)
        killed.kill()
        # Most of it is for the disk, which is others' too; test_embedded.py holds it to five seconds.
        wait_until(lambda: is_another(folder, killed.pid) and answers(server, "/readyz"), 30.0)
        assert server.get("/api/v1/datasets").status_code == 200
        children = [postmaster(folder), *psutil.Process(server.process.pid).children()]
        assert server.signal(signal.SIGINT) < 10.0
        assert server.process.returncode == 0
        assert psutil.wait_procs(children, timeout=5)[1] == []


def test_a_second_signal_leaves_neither_worker_nor_data_base_behind(folder: Path) -> None:
    with run("up", "--data-dir", str(folder)) as server:
        children = [postmaster(folder), *psutil.Process(server.process.pid).children()]
        assert len(children) >= 2
        assert server.signal(signal.SIGINT, signal.SIGINT) < 5.0
        assert psutil.wait_procs(children, timeout=10)[1] == []
