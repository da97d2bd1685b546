"""What Alembic runs: on the connection that `app/db/migrate.py` hands over, or, for developers who call
`alembic` themselves, on the data base that REWARDSCOPE_DATABASE_URL names."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from app.db import tables  # noqa: F401 - the tables join the base's metadata
from app.db.base import Base
from app.db.session import make_engine
from app.settings import Settings


def is_ours(name: str | None, kind: str, parents: object) -> bool:
    """Whether autogenerate looks at this; the queue's tables belong to procrastinate."""
    return not (kind == "table" and name is not None and name.startswith("procrastinate_"))


def is_comparable(_thing: object, name: str | None, _kind: str, _reflected: bool, _other: object) -> bool:
    """Whether autogenerate compares this: not the index whose expression PostgreSQL writes its own way."""
    return name != "ix_pairs_words"


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_name=is_ours,
        include_object=is_comparable,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def migrate_by_url() -> None:
    url = Settings().database_url
    if url is None:
        raise SystemExit("Set REWARDSCOPE_DATABASE_URL to the data base that alembic shall work on.")
    engine = make_engine(url)
    with engine.connect() as connection:
        migrate(connection)
    engine.dispose()


handed_over: Connection | None = context.config.attributes.get("connection")
if handed_over is None:
    migrate_by_url()
else:
    migrate(handed_over)
