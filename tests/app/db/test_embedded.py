from __future__ import annotations

import itertools
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import text

from app.db.embedded import EmbeddedPostgres
from app.db.session import Database
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
def apart() -> Iterator[Path]:
    """A data folder for one test, with a short path that the server's user may enter."""
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


START = """
import signal, sys
from pathlib import Path
from app.db.embedded import EmbeddedPostgres
def leave(number, frame):
    raise SystemExit(128 + number)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, leave)
server = EmbeddedPostgres(Path(sys.argv[1]))
print("starting", flush=True)
server.start()
print("started", flush=True)
sys.stdin.read()
"""
HOWS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


def interrupted(folder: Path, seconds: float, how: signal.Signals) -> None:
    """A start in `folder` that gets `how`, as its whole process group does from a terminal, after so long."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", START, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"starting\n"
        time.sleep(seconds)
        os.killpg(process.pid, how)
        process.communicate(timeout=60)


def starts_and_keeps(folder: Path) -> None:
    """The folder can be started, holds what is stored in it, and has no other leftovers."""
    server = EmbeddedPostgres(folder, FAST)
    try:
        with psycopg.connect(server.start()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    finally:
        server.stop()
    assert sorted(path.name for path in folder.iterdir()) == ["postgres", "postgres.lock", "postgres.users"]


@pytest.mark.parametrize(
    ("seconds", "how"), [*zip((0.02, 0.2, 0.5, 0.8, 1.2, 1.6), 2 * HOWS, strict=True)], ids=str
)
def test_a_first_start_that_was_interrupted_keeps_no_later_one_from_its_work(
    apart: Path, seconds: float, how: signal.Signals
) -> None:
    interrupted(apart, seconds, how)
    starts_and_keeps(apart)


@pytest.mark.chaos
@pytest.mark.parametrize("moment", range(30))
def test_a_first_start_can_be_interrupted_at_any_moment_and_twice(apart: Path, moment: int) -> None:
    interrupted(apart, moment * 0.08, HOWS[moment % 3])
    interrupted(apart, (29 - moment) * 0.08, HOWS[(moment + 1) % 3])
    starts_and_keeps(apart)


def test_half_a_folder_of_a_release_that_made_it_in_place_is_put_aside(apart: Path) -> None:
    half = apart / "postgres"
    (half / "base").mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(apart, FAST)
    with psycopg.connect(server.start()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    server.stop()
    assert [path.name for path in apart.glob("postgres.unfinished-*/*")] != []


def test_a_folder_with_data_is_never_made_anew(apart: Path) -> None:
    (apart / "postgres" / "base" / "16384").mkdir(parents=True)
    with pytest.raises(NotReady, match="holds data"):
        EmbeddedPostgres(apart, FAST).start()
    assert (apart / "postgres" / "base" / "16384").is_dir()


def test_what_a_server_that_was_killed_leaves_is_cleared(server: EmbeddedPostgres, folder: Path) -> None:
    with joined(folder) as other:
        for pid in (other.pid, postmaster(folder)):
            os.kill(pid, signal.SIGKILL)
    lock = folder / "postgres" / ".s.PGSQL.5432.lock"
    assert lock.exists()
    # Its number belongs to somebody else by now.
    for file in (lock, folder / "postgres" / "postmaster.pid"):
        file.write_text("\n".join([str(os.getpid()), *file.read_text().splitlines()[1:]]) + "\n")
    with psycopg.connect(server.start()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_server_that_is_killed_under_load_is_there_again_within_five_seconds(
    server: EmbeddedPostgres, folder: Path
) -> None:
    killed_under_load(server, folder, times=1)


@pytest.mark.chaos
def test_a_server_that_is_killed_five_times_under_load_loses_nothing(
    server: EmbeddedPostgres, folder: Path
) -> None:
    killed_under_load(server, folder, times=5)


def killed_under_load(server: EmbeddedPostgres, folder: Path, times: int) -> None:
    database = Database.connect(server.start())
    with database.session() as session:
        session.execute(text("DROP TABLE IF EXISTS counted"))
        session.execute(text("CREATE TABLE counted (number integer PRIMARY KEY)"))
    stored: list[int] = []
    numbers = itertools.count()
    ended = threading.Event()

    def load() -> None:
        while not ended.is_set():
            number = next(numbers)
            try:
                with database.session() as session:
                    session.execute(text("INSERT INTO counted VALUES (:number)"), {"number": number})
            except NotReady:
                time.sleep(0.02)
            else:
                stored.append(number)

    threads = [threading.Thread(target=load) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(times):
            time.sleep(0.3)
            os.kill(postmaster(folder), signal.SIGKILL)
            killed_at, before = time.monotonic(), len(stored)
            while len(stored) < before + 50:  # More than what was on its way when the server died.
                assert time.monotonic() - killed_at < 5.0
                time.sleep(0.02)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    with database.session() as session:
        found = set(session.scalars(text("SELECT number FROM counted")))
    database.dispose()
    assert set(stored) <= found


def test_the_socket_lies_in_a_folder_of_the_servers_user_alone_however_long_the_path(apart: Path) -> None:
    for folder in (apart, apart / ("long" * 25)):
        server = EmbeddedPostgres(folder, FAST)
        url = server.start()
        try:
            place = Path(url.partition("host=")[2])
            assert stat.S_IMODE(place.stat().st_mode) == 0o700
            assert stat.S_IMODE((place / ".s.PGSQL.5432").stat().st_mode) == 0o700
        finally:
            server.stop()
    shutil.rmtree(place)


def test_a_folder_for_sockets_that_somebody_else_made_is_refused(apart: Path) -> None:
    folder = apart / ("long" * 25)
    server = EmbeddedPostgres(folder, FAST)
    place = Path(server.start().partition("host=")[2])
    server.stop()
    place.chmod(0o777)
    with pytest.raises(NotReady, match="another user's"):
        server.start()
    place.chmod(0o700)
    shutil.rmtree(place)
