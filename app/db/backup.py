"""The whole data base as one file, and back: what moves data to another PostgreSQL or another release.

The programs are those that come with the embedded server; they speak to any PostgreSQL up to its version.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from app.db import migrate
from app.db.embedded import PROGRAMS
from app.db.session import libpq_url
from app.errors import AppError, Conflict, Invalid, StorageFull


class BackupFailed(AppError):
    """PostgreSQL's own program gave up; its last line says why."""

    status = 500
    code = "backup_failed"
    title = "Backup failed"


def backup(url: str, path: Path) -> int:
    """Write everything at `url` to `path`, whole or not at all; returns the bytes.

    It is one moment of the data base, taken while others work on. Raises Conflict where the file exists, or
    where the data base holds nothing.
    """
    if path.exists():
        raise Conflict(f"{path} exists already; name another file, or remove it.")
    if migrate.current(url) is None:
        raise Conflict("The data base is empty: no server was started on it; name another one.")
    beside = path.with_name(f".{path.name}.part")
    try:
        _run(
            "pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={beside}", libpq_url(url)
        )
        beside.rename(path)
    finally:
        beside.unlink(missing_ok=True)
    return path.stat().st_size


def restore(url: str, path: Path) -> None:
    """Fill the empty data base at `url` from `path`, all or nothing, and bring it to this release.

    Raises Invalid where the file is no backup, Conflict where the data base holds anything.
    """
    if not path.is_file():
        raise Invalid(f"{path} is no file; name one that `rewardscope db backup` wrote.")
    if migrate.current(url) is not None:
        raise Conflict("The data base is not empty. Restore into a new data folder, or a new data base.")
    _run("pg_restore", "--list", str(path))
    _run(
        "pg_restore", "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges",
        f"--dbname={libpq_url(url)}", str(path),
    )  # fmt: skip
    migrate.upgrade(url)


def _run(program: str, *arguments: str) -> None:
    done = subprocess.run([PROGRAMS / program, *arguments], capture_output=True, text=True)
    if done.returncode == 0:
        return
    lines = done.stderr.strip().splitlines() or [f"{program} ended with status {done.returncode}"]
    if "No space left" in done.stderr:
        raise StorageFull("The disk is full; no backup was left behind. Free some space and try again.")
    if program == "pg_restore" and "--list" in arguments:
        raise Invalid(f"The file is no backup of RewardScope: {lines[-1]}.")
    raise BackupFailed(f"{lines[-1]}.")
