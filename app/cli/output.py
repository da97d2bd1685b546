"""How commands speak: tables and sentences for people, one JSON document for programs (`--json`).

Results go to standard output; progress and complaints to standard error, so that output can be piped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from app.errors import AppError
from engine import types
from engine.errors import EngineError

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


class Exit(IntEnum):
    """The exit statuses of every command, for scripts."""

    BUG = 1
    """Something that should not happen; the traceback says where."""
    BAD_INPUT = 2
    """The command, a file or a request is not right; the sentence says what to do."""
    NOT_FOUND = 3
    """What was named does not exist: a run, a data set, a data folder."""
    SERVER_AWAY = 4
    """No server or data base answers."""
    RUN_FAILED = 5
    """The run or recipe that was waited for failed, crashed or was cancelled."""


ENGINE_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "peft", "accelerate")
"""What the extra `engine` brings."""


def print_json(value: Any) -> None:
    """One JSON document on standard output. A NaN in it is a bug and raises."""
    typer.echo(json.dumps(value, ensure_ascii=False, allow_nan=False, default=str))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, nothing: str) -> None:
    """A table, or the sentence `nothing` where there are no rows. None shows as a blank."""
    if not rows:
        out.print(nothing)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name)
    for row in rows:
        table.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
    out.print(table)


def refuse(sentence: str, lines: Sequence[str] = (), status: Exit = Exit.BAD_INPUT) -> NoReturn:
    """Prints why nothing was done and ends the command."""
    err.print(f"[bold red]error:[/] {escape(sentence)}")
    for line in lines:
        err.print(f"  {escape(line)}")
    raise typer.Exit(status)


@contextmanager
def refusing() -> Iterator[None]:
    """Turns the errors that are the user's to mend into `refuse`."""
    try:
        yield
    except AppError as error:
        lines = [f"{' '.join(map(str, p.loc))}: {p.msg}" for p in error.errors]
        refuse(error.detail, lines, status_of_http(error.status))
    except EngineError as error:
        refuse(str(error))


def status_of_http(status: int) -> Exit:
    """The exit status for what a server answers with an HTTP status."""
    return {404: Exit.NOT_FOUND, 503: Exit.SERVER_AWAY}.get(status, Exit.BAD_INPUT)


def require_engine() -> None:
    """Refuses in a sentence where the packages that load models are not installed."""
    missing = missing_packages()
    if missing is not None:
        refuse(f"This command loads models, and {missing}")


def missing_packages() -> str | None:
    """The end of a sentence on the packages that load models and are not installed; None where all are."""
    missing = [name for name in ENGINE_PACKAGES if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    are = "is" if len(missing) == 1 else "are"
    return f"{', '.join(missing)} {are} not installed: pip install 'rewardscope[engine]'."


@contextmanager
def tidy_end() -> Iterator[None]:
    """While this lasts, SIGTERM unwinds as Ctrl-C does: what is half written is taken away."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def complaints(error: ValidationError, whole: str) -> list[str]:
    """What does not validate, a line each; `whole` names what is checked where no field is to blame."""
    return [
        f"{'.'.join(map(str, one['loc'])) or whole}: {one['msg']}"
        + (f" (not {one['input']!r})" if isinstance(one["input"], str | int | float) else "")
        for one in error.errors()
    ]


def settle_libraries() -> None:
    """Has libraries behave as in a job's own process; to be called before torch is loaded.

    Refuses where torch is not installed.
    """
    require_engine()
    from app.job_process import ENVIRONMENT

    os.environ.update(ENVIRONMENT | os.environ)


class ProgressBar:
    """A bar on standard error that follows the `Progress` of a job, one line a phase."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._bar = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=err,
            disable=quiet,
            transient=False,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, progress: types.Progress) -> None:
        """Moves the bar of this phase, and ends those of the phases before it."""
        if progress.phase not in self._tasks:
            self._finish()
            self._tasks[progress.phase] = self._bar.add_task(
                progress.phase, total=progress.total, unit=progress.unit
            )
        self._bar.update(self._tasks[progress.phase], completed=progress.done, total=progress.total)

    def report(
        self, progress: types.Progress | None = None, chunk: object = None, message: str | None = None
    ) -> None:
        """The report of a job that runs in this very process: what it found is not for a bar."""
        if progress is not None:
            self.update(progress)
        if message is not None:
            self.say(message)

    def say(self, message: str) -> None:
        """A line above the bars."""
        if not self._bar.disable:
            self._bar.console.print(f"[dim]{escape(message)}[/]")

    def _finish(self) -> None:
        for task in self._bar.tasks:
            if not task.finished:
                self._bar.update(task.id, total=task.total or 1, completed=task.total or 1)
