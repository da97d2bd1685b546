"""Brings a data base to a revision of our tables: up to the newest one, or down again.

Starters that come at the same time wait for each other; each revision is applied whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from app.db.session import make_engine, translated_errors


def upgrade(url: str, revision: str = "head") -> None:
    """Apply every revision up to `revision`; nothing happens when they are there already."""
    _locked(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> None:
    """Take back every revision after `revision`; `base` leaves an empty data base. Data is lost."""
    _locked(url, lambda config: command.downgrade(config, revision))


def current(url: str) -> str | None:
    """The revision of the data base at `url`; None when it was never migrated."""
    engine = make_engine(url)
    try:
        with translated_errors(), engine.connect() as connection:
            return revision_of(connection)
    finally:
        engine.dispose()


def revision_of(connection: Connection) -> str | None:
    """The revision of the data base that `connection` speaks to."""
    return MigrationContext.configure(connection).get_current_revision()


@cache
def head() -> str:
    """The newest revision that this release knows."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None, "this release carries at least one revision"
    return revision


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations"))
    config.attributes["connection"] = connection
    return config


def _locked(url: str, action: Callable[[Config], None]) -> None:
    """Run `action` in one transaction that holds the lock of migrations."""
    engine = make_engine(url)
    try:
        with translated_errors(), engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('rewardscope migrate'))"))
            action(_config(connection))
    finally:
        engine.dispose()
