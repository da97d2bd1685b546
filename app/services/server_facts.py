"""What this server is and stands on: its data base, its disks, every setting in force but for secrets."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import make_url, text
from sqlalchemy.orm import Session

from app.db import migrate
from app.settings import Settings

HIDDEN = "set, not shown"
FACTS = text("""
    SELECT current_setting('server_version') AS version, pg_database_size(current_database()) AS size
""")


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder, and the disk that it lies on."""

    name: str
    path: str
    free: int | None
    """Bytes; None where the folder cannot be looked at."""
    total: int | None


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A server."""

    version: str
    python: str
    database: str
    """Where it is, without user and password."""
    is_embedded: bool
    postgres: str
    database_bytes: int
    revision: str | None
    disks: list[Disk]


@dataclass(frozen=True, slots=True)
class SettingInForce:
    """One setting."""

    name: str
    """Of the variable."""
    value: str
    is_default: bool
    """Whether nobody set it."""
    description: str


def read_facts(session: Session, settings: Settings) -> ServerFacts:
    """The facts of the server that these settings are in force on."""
    row = session.execute(FACTS).one()
    return ServerFacts(
        version=version("rewardscope"),
        python=platform.python_version(),
        database=_place(settings),
        is_embedded=settings.database_url is None,
        postgres=str(row.version).partition(" ")[0],
        database_bytes=int(row.size),
        revision=migrate.revision_of(session.connection()),
        disks=[_disk("data folder", settings.data_dir), _disk("runs", settings.runs_dir)],
    )


def settings_in_force(settings: Settings) -> list[SettingInForce]:
    """Every setting in the order in which the class has them."""
    prefix = str(Settings.model_config.get("env_prefix", ""))
    return [
        SettingInForce(
            name=f"{prefix}{name}".upper(),
            value=_written(name, getattr(settings, name)),
            is_default=name not in settings.model_fields_set,
            description=(field.description or "").replace("`", ""),
        )
        for name, field in Settings.model_fields.items()
    ]


def _place(settings: Settings) -> str:
    if settings.database_url is None:
        return str(settings.data_dir / "postgres")
    url = make_url(settings.database_url)
    port = f":{url.port}" if url.port else ""
    return f"{url.host or url.query.get('host', 'local socket')}{port}/{url.database or ''}"


def _disk(name: str, path: Path) -> Disk:
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        usage = shutil.disk_usage(place)
    except OSError:
        return Disk(name, str(path), None, None)
    return Disk(name, str(path), usage.free, usage.total)


def _written(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return HIDDEN
    if name == "database_url":
        return make_url(value).render_as_string(hide_password=True)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
