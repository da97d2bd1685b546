"""The real application on a PostgreSQL of its own, asked in this process: what is measured is the whole
answer, from the request to the last byte, with the queries and with what the client costs."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import structlog
from sqlalchemy import text
from starlette.testclient import TestClient

from app.db import migrate
from app.db.embedded import EmbeddedPostgres
from app.db.session import Database
from app.main import create_app, settle
from app.settings import Settings

TOKEN = "a-token-for-benchmarks-0123456789"


@contextmanager
def scratch_database(folder: Path) -> Iterator[Database]:
    """A migrated data base in `folder`; one that is there already is used again."""
    server = EmbeddedPostgres(folder)
    url = server.start()
    try:
        migrate.upgrade(url)
        database = Database.connect(url)
        yield database
        database.dispose()
    finally:
        server.stop()


def analyse(database: Database) -> None:
    """Lets PostgreSQL learn what was just stored, as its daemon does sooner or later."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


@contextmanager
def signed_in(folder: Path, database: Database) -> Iterator[TestClient]:
    """A client of the application, which is as `rewardscope serve` leaves it."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    settings = Settings(
        data_dir=folder, database_url=database.url, token=TOKEN, device="cpu", log_level="error"
    )
    app = create_app(settings, database)
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/html"}
    with TestClient(app, base_url="http://127.0.0.1:8321", headers=headers) as client:
        settle()
        yield client


def measure(client: TestClient, asked: Mapping[str, str], requests: int) -> None:
    """Asks for every address so many times and prints a line for each."""
    width = max(map(len, asked))
    print(f"{'':{width}} {'first':>8} {'median':>8} {'p95':>8} {'KB':>8}   milliseconds")
    for name, address in asked.items():
        taken = []
        for _ in range(requests):
            started = time.perf_counter()
            answer = client.get(address)
            taken.append(1000 * (time.perf_counter() - started))
            assert answer.status_code == 200, answer.text[:500]
        first, *rest = taken
        figures = first, np.median(rest), np.quantile(rest, 0.95), len(answer.content) / 1000
        print(f"{name:{width}} " + " ".join(f"{figure:8.1f}" for figure in figures))
