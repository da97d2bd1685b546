"""What tests share: a real PostgreSQL (one embedded server a test session, a data base of its own for each
xdist worker, empty before each test), settings, a stepped worker, and clients of the real application."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db import migrate
from app.db.embedded import EmbeddedPostgres
from app.db.session import Database, libpq_url, sqlalchemy_url
from app.settings import Settings

TOKEN = "a-token-for-tests-0123456789"
ORIGIN = "http://127.0.0.1:8321"
TEMPLATE = "rewardscope_template"
UNSAFE_BUT_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
EMPTY = """
    DELETE FROM procrastinate_jobs; DELETE FROM procrastinate_workers;
    DELETE FROM recipes; DELETE FROM task_suites;
    DELETE FROM runs; DELETE FROM datasets; DELETE FROM models; DELETE FROM workers;
    DELETE FROM idempotency_keys; DELETE FROM webhooks;
"""


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> None:
    """The product is configured by its environment; the tests' own must not leak in."""
    for name in [name for name in os.environ if name.startswith("REWARDSCOPE_")]:
        del os.environ[name]


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """An embedded PostgreSQL that all xdist workers of this test session share.

    It does not lie in pytest's own folder: each pytest that starts closes that one to other users, and
    under root the server runs as one.
    """
    session_id = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    folder = Path(tempfile.gettempdir()) / f"rewardscope-tests-{session_id}"
    server = EmbeddedPostgres(folder, UNSAFE_BUT_FAST)
    url = server.start()
    yield url
    server.stop()
    if not (server.folder / "postmaster.pid").exists():  # We were the last to leave.
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def template_url(server_url: str) -> str:
    """A migrated data base that others are copied from; the first xdist worker that comes makes it."""
    with psycopg.connect(libpq_url(server_url), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone()
        url = _named(server_url, TEMPLATE)
        if found is None:
            connection.execute(f"CREATE DATABASE {TEMPLATE}")
            migrate.upgrade(url)
    return url


@pytest.fixture(scope="session")
def database_url(server_url: str, template_url: str) -> str:
    """The data base of this xdist worker, migrated."""
    name = f"rewardscope_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    make_database(server_url, name, TEMPLATE)
    return _named(server_url, name)


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """A data base without any table."""
    name = f"rewardscope_empty_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    make_database(server_url, name, "template1")
    yield _named(server_url, name)
    with psycopg.connect(libpq_url(server_url), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def _database(database_url: str) -> Iterator[Database]:
    database = Database.connect(database_url)
    yield database
    database.dispose()


@pytest.fixture
def database(_database: Database) -> Database:
    """A real data base with our tables and nothing in them."""
    with _database.session() as session:
        for statement in EMPTY.split(";"):
            if statement.strip():
                session.execute(text(statement))
    return _database


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """One transaction on `database`, committed at the end of the test."""
    with database.session() as session:
        yield session


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """Settings of a server on this test's data base and a data folder of its own."""
    return Settings(
        data_dir=tmp_path / "data",
        database_url=database_url,
        token=TOKEN,
        device="cpu",
        webhook_hosts=("*", "127.0.0.1"),  # Webhooks of tests are received on this machine.
    )


@pytest.fixture
def worker(settings: Settings, database: Database) -> Iterator[object]:
    """A worker that does one job at each `run_once()`, in the test's own thread."""
    from app.worker import Worker

    worker = Worker(settings, database)
    yield worker
    worker.close()


@pytest.fixture
def anonymous(settings: Settings, database: Database) -> Iterator[object]:
    """A client of the real application that has not signed in."""
    from starlette.testclient import TestClient

    from app.main import create_app

    with TestClient(create_app(settings, database), base_url=ORIGIN, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def client(settings: Settings, database: Database) -> Iterator[object]:
    """A client of the real application that carries the access token as programs do."""
    from starlette.testclient import TestClient

    from app.main import create_app

    headers = {"Authorization": f"Bearer {TOKEN}"}
    with TestClient(create_app(settings, database), base_url=ORIGIN, headers=headers) as client:
        yield client


def make_database(server_url: str, name: str, template: str) -> None:
    """Make the data base `name` anew, as a copy of `template`."""
    with psycopg.connect(libpq_url(server_url), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")  # A template is copied by one at a time.
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")


def _named(url: str, name: str) -> str:
    return sqlalchemy_url(url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a tiny model: `model_folder(shape, seed=0, **options of byte_tokenizer)`."""
    import torch

    from tests.engine.tiny_models import byte_tokenizer, write_model

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("models")

    def folder(shape: str, seed: int = 0, **tokenizer: object) -> Path:
        name = "-".join([shape, str(seed), *(f"{key}={value}" for key, value in sorted(tokenizer.items()))])
        if not (root / name).exists():
            write_model(root / name, shape, byte_tokenizer(**tokenizer), seed)  # type: ignore[arg-type]
        return root / name

    return folder


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Where CI=true, a skipped test is a failed one: nothing may go untested unseen."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") != "true" or reporter is None or hasattr(session.config, "workerinput"):
        return
    if reporter.stats.get("skipped") and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
