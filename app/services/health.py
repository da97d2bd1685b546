"""Whether this server can do its work: the data base answers and has this release's tables."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.db import migrate
from app.errors import NotReady
from app.services.runs.runs import count_by_status
from app.services.runs.workers import count_alive


@dataclass(frozen=True, slots=True)
class Health:
    """A server that is ready."""

    revision: str
    """The revision of the tables."""
    workers: int
    """How many workers are alive; with none, jobs wait."""
    queued: int
    """How many jobs wait."""


def check(session: Session) -> Health:
    """What a ready server has. Raises NotReady when the tables are not this release's."""
    found, expected = migrate.revision_of(session.connection()), migrate.head()
    if found != expected:
        raise NotReady(
            f"The data base is at revision {found or 'none'} and this release needs {expected}. "
            "Run `rewardscope db upgrade`."
        )
    return Health(found, count_alive(session), count_by_status(session)["queued"])
