from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from app.db import migrate
from app.db.session import Database
from app.db.tables import Job


def test_the_migrated_tables_are_the_models(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_server_default": True,
                # How PostgreSQL writes the long expression of this index is nothing that can be compared.
                "include_object": lambda _, name, *__: name != "ix_pairs_words",
                "include_name": lambda name, kind, _: (
                    kind != "table" or not name.startswith("procrastinate_")
                ),
            },
        )
        assert compare_metadata(context, Job.metadata) == []


def test_migrations_run_up_and_down_and_up_again(empty_database_url: str) -> None:
    assert migrate.current(empty_database_url) is None
    migrate.upgrade(empty_database_url)
    assert migrate.current(empty_database_url) == migrate.head()
    migrate.downgrade(empty_database_url, "base")
    assert migrate.current(empty_database_url) is None
    assert _leftovers(empty_database_url) == []
    migrate.upgrade(empty_database_url)
    assert migrate.current(empty_database_url) == migrate.head()


def test_starters_that_migrate_at_the_same_time_wait_for_each_other(empty_database_url: str) -> None:
    ready = threading.Barrier(3)

    def start() -> None:
        ready.wait()
        migrate.upgrade(empty_database_url)

    with ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(start) for _ in range(3)]:
            future.result()
    assert migrate.current(empty_database_url) == migrate.head()


def _leftovers(url: str) -> list[str]:
    """Names of tables, functions and types that a downgrade to `base` has left."""
    database = Database.connect(url)
    try:
        tables = inspect(database.engine).get_table_names()
        with database.session() as session:
            query = """
                SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
                UNION SELECT typname FROM pg_type
                WHERE typnamespace = 'public'::regnamespace AND typname NOT LIKE '%alembic_version'
            """
            names = list(session.scalars(text(query)))
    finally:
        database.dispose()
    return [name for name in tables if name != "alembic_version"] + names
