from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from app.db.embedded import EmbeddedPostgres
from app.errors import NotReady

FAST = {"fsync": "off"}
JOIN = """
import sys
from pathlib import Path
from app.db.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print("joined", flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A data folder that the tests of this module share: making one takes a second."""
    with tempfile.TemporaryDirectory(prefix="rewardscope-embedded-") as folder:
        yield Path(folder)


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(folder, FAST)
    yield server
    server.stop()


def joined(folder: Path) -> subprocess.Popen[str]:
    """Another process that uses the server of `folder` until its standard input ends."""
    other = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", JOIN, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "joined\n"
    return other


def postmaster(folder: Path) -> int:
    return int((folder / "postgres" / "postmaster.pid").read_text().split()[0])


def ended(pid: int) -> bool:
    """Whether the process ends; the server removes its pid file a moment before that."""
    try:
        psutil.Process(pid).wait(30)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


def test_what_was_stored_is_there_after_a_restart(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.start()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    server.stop()
    with psycopg.connect(server.start()) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_the_server_stops_when_its_last_user_leaves(server: EmbeddedPostgres, folder: Path) -> None:
    server.start()
    pid = postmaster(folder)
    with joined(folder) as other:
        server.stop()
        assert psutil.pid_exists(pid), "the other process still uses it"
        assert postmaster(folder) == pid
        other.communicate()
    assert ended(pid)


def test_a_user_that_was_killed_keeps_no_server_alive(server: EmbeddedPostgres, folder: Path) -> None:
    server.start()
    pid = postmaster(folder)
    with joined(folder) as other:
        os.kill(other.pid, signal.SIGKILL)
    server.stop()
    assert ended(pid)


def test_a_pid_file_of_another_program_is_no_server(server: EmbeddedPostgres, folder: Path) -> None:
    server.start()
    stale = (folder / "postgres" / "postmaster.pid").read_text().splitlines()
    server.stop()
    (folder / "postgres" / "postmaster.pid").write_text("\n".join([str(os.getpid()), *stale[1:]]) + "\n")
    with psycopg.connect(server.start()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_nobody_else_may_open_the_socket(server: EmbeddedPostgres, folder: Path) -> None:
    with psycopg.connect(server.start()) as connection:
        assert connection.execute("SHOW unix_socket_permissions").fetchone() == ("0700",)
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)


def test_a_folder_of_another_version_is_refused_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(NotReady, match="rewardscope db backup"):
        EmbeddedPostgres(tmp_path).start()


def test_stopping_what_never_started_is_no_error(tmp_path: Path) -> None:
    EmbeddedPostgres(tmp_path).stop()
