"""`up`, `demo`, `serve` and `worker`: what runs until Ctrl-C.

`up` is data base + migrations + web + one worker; `serve` and `worker` are its parts, for machines of their
own.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from app.cli.banner import address, banner
from app.cli.output import (
    Exit,
    ProgressBar,
    complaints,
    err,
    out,
    refuse,
    refusing,
    require_engine,
)
from app.ending import Ending
from app.errors import AppError
from app.settings import Settings

STOP_SECONDS = 4
"""How long a worker may take to hand back its jobs before it is killed."""

Host = Annotated[str | None, typer.Option(help="Address to bind; any but a loopback one needs a token.")]
Port = Annotated[int | None, typer.Option(help="Port to bind; 0 takes a free one.")]
DataDir = Annotated[Path | None, typer.Option(help="Where the embedded data base and the token lie.")]
DatabaseUrl = Annotated[str | None, typer.Option(help="An external PostgreSQL instead of the embedded one.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(up)
    app.command()(demo)
    app.command()(serve)
    app.command()(worker)


def up(
    host: Host = None, port: Port = None, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """Start everything: data base, migrations, web server and one worker."""
    require_engine()
    settings = read_settings(host=host, port=port, data_dir=data_dir, database_url=database_url)
    with refusing():
        _serve(settings, with_worker=True, migrate=True)


def demo(
    host: Host = None, port: Port = None, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """Start everything and fill it with a small world of known errors."""
    require_engine()
    settings = read_settings(host=host, port=port, data_dir=data_dir, database_url=database_url)
    with refusing():
        _serve(settings, with_worker=True, migrate=True, beside=_load_demo)


def serve(
    host: Host = None, port: Port = None, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """Start the web server alone, on a data base that `rewardscope db upgrade` has prepared."""
    settings = read_settings(host=host, port=port, data_dir=data_dir, database_url=database_url)
    with refusing():
        _serve(settings, with_worker=False, migrate=False)


def worker(
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    name: Annotated[str | None, typer.Option(help="Its name in the dashboard.")] = None,
    queue: Annotated[list[str] | None, typer.Option(help="A queue to serve; repeat for several.")] = None,
    device: Annotated[
        str | None, typer.Option(help="Where models run: auto, cpu, cuda, cuda:1, mps.")
    ] = None,
    parent: Annotated[int | None, typer.Option(hidden=True, help="Stop when this process is gone.")] = None,
) -> None:
    """Start one more worker; it joins from any machine that reaches the data base."""
    require_engine()
    settings = read_settings(
        database_url=database_url,
        data_dir=data_dir,
        worker_name=name,
        worker_queues=tuple(queue) if queue else None,
        device=device,
    )
    from app.db.session import Database
    from app.logging import configure_logging
    from app.worker import Worker

    configure_logging(settings)
    ending = Ending()
    ending.listen()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    with refusing(), database_url_of(settings, ending=ending) as url:
        _require_migrated(url)
        database = Database.connect(url)
        try:
            Worker(settings, database).run(ending)
        finally:
            database.dispose()
    if ending.was_asked:
        ending.leave()


def read_settings(**options: Any) -> Settings:
    """The settings of the environment, with what the command line says on top."""
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        refuse(
            "The settings do not fit.",
            complaints(error, "settings"),
        )


@contextmanager
def database_url_of(settings: Settings, *, make: bool = True, ending: Ending | None = None) -> Iterator[str]:
    """The external data base, or the embedded one for as long as it is needed; it stops also where `ending`
    comes out of order.

    Refuses without `make` where the data folder holds none: a question does not make a data base.
    """
    if settings.database_url is not None:
        yield settings.database_url
        return
    from app.db.embedded import EmbeddedPostgres

    embedded = EmbeddedPostgres(settings.data_dir)
    if not make and not embedded.exists:
        refuse(
            f"There is no data base in {settings.data_dir}.",
            ["Name the data folder of your server with --data-dir, or its PostgreSQL with --database-url."],
            Exit.NOT_FOUND,
        )
    if ending is not None:
        ending.at_last.append(embedded.ask_to_stop)
    url = embedded.start()
    try:
        yield url
    finally:
        embedded.stop()


def _require_migrated(url: str) -> None:
    from app.db.migrate import current, head

    found = current(url)
    if found != head():
        refuse(
            "The data base is empty." if found is None else "The data base is of another release.",
            ["Run `rewardscope db upgrade` first; `rewardscope up` does it by itself."],
        )


def _serve(
    settings: Settings,
    *,
    with_worker: bool,
    migrate: bool,
    beside: Callable[[Settings, str, str], None] | None = None,
) -> None:
    """Runs the web server until a signal; `beside(settings, database url, address)` runs in a thread."""
    from app.cli.web_server import WebServer
    from app.db.migrate import upgrade
    from app.db.session import Database
    from app.logging import configure_logging
    from app.main import create_app, settle
    from app.security import check_bind, load_token

    configure_logging(settings)
    check_bind(settings)
    ending = Ending()
    ending.listen()
    with ExitStack() as stack:
        listening = stack.enter_context(_bound_socket(settings))
        port = listening.getsockname()[1]
        url = stack.enter_context(database_url_of(settings, ending=ending))
        if migrate:
            upgrade(url)
        else:
            _require_migrated(url)
        token = load_token(settings)
        if with_worker:
            stack.enter_context(_worker_process(settings, url, ending))
        app = create_app(settings, Database.connect(url))
        out.print(
            banner(
                settings,
                port=port,
                token=token,
                database_url=url,
                worker="one on this machine" if with_worker else "none here; start `rewardscope worker`",
            ),
            markup=False,
        )
        if beside is not None:
            here = address(settings, port)
            threading.Thread(target=beside, args=(settings, url, here), daemon=True).start()
        server = WebServer(app)
        settle()
        ending.ask = server.ask_to_stop
        server.run(sockets=[listening])
    if ending.was_asked:
        ending.leave()


@contextmanager
def _bound_socket(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((settings.host, settings.port))
        except OSError as error:
            refuse(
                f"{settings.host}:{settings.port} cannot be bound: {error.strerror}.",
                ["Another server may run there; choose one with --port, or stop it."],
            )
        listening.listen(2048)
        yield listening


@contextmanager
def _worker_process(settings: Settings, url: str, ending: Ending) -> Iterator[None]:
    """A worker beside the server, started again when it dies, and stopped with the server.

    It gets a process group of its own, so that a Ctrl-C reaches it by us alone and once.
    """
    command = [sys.executable, "-m", "rewardscope", "worker", "--parent", str(os.getpid())]
    environment = os.environ | {
        "REWARDSCOPE_DATABASE_URL": url,
        "REWARDSCOPE_DATA_DIR": str(settings.data_dir.absolute()),
    }
    stopping = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        running[:] = [subprocess.Popen(command, env=environment, start_new_session=True)]

    def watch() -> None:
        while not stopping.is_set():
            status = running[0].wait()
            if not stopping.is_set():
                err.print(f"[yellow]The worker ended with status {status}; it is started again.[/]")
                if not stopping.wait(1.0):
                    start()

    start()
    threading.Thread(target=watch, daemon=True).start()
    ending.at_last += [stopping.set, lambda: running[0].kill()]
    try:
        yield
    finally:
        stopping.set()
        process = running[0]
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _follow(parent: int) -> None:
    """Ends this worker as Ctrl-C would, once the server that started it is gone."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


def _load_demo(settings: Settings, url: str, here: str) -> None:
    """Asks for the demo and shows in the terminal how far it is."""
    from app.db.session import Database
    from app.services import demo as demos
    from app.services.runs import runs

    database = Database.connect(url)
    started = time.monotonic()
    try:
        with database.session() as session:
            run_id = demos.load(session, settings).id
        with database.session() as session:
            already = runs.get_run(session, run_id).job.status == "succeeded"
        result = _followed(database, run_id)
        if not result or not _followed(database, result["run_id"]):
            return
        seconds = "" if already else f" after {time.monotonic() - started:.0f} s"
        page = f"{here}/datasets/{result['dataset_id']}?sort=conflict"
        out.print(f"  The demo is ready{seconds}: {page}", markup=False)
    except AppError as error:
        err.print(f"The demo could not be loaded: {error.detail}", markup=False)
    finally:
        database.dispose()


def _followed(database: Any, run_id: int) -> dict[str, Any]:
    """The result of a run, waited for behind a progress bar; empty when it did not succeed."""
    from app.services.runs import runs
    from engine.types import Progress

    with ProgressBar(quiet=not err.is_terminal) as bar:
        while True:
            with database.session() as session:
                run = runs.get_run(session, run_id)
                job = run.job
            if job.phase:
                bar.update(Progress(job.phase, job.done, job.total, job.unit))
            if job.status == "succeeded":
                return run.result or {}
            if job.status in ("failed", "crashed", "cancelled"):
                reason = (job.error or {}).get("detail", "")
                err.print(f"{run.name} {job.status}. {reason}", markup=False)
                return {}
            time.sleep(0.25)
