"""How commands speak: tables and sentences for people, one JSON document for programs (`--json`).

Results go to standard output; progress and complaints to standard error, so that output can be piped.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

BAD_INPUT = 2
"""Exit status when the user can mend it; 1 is a bug."""


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


def refuse(sentence: str, lines: Sequence[str] = ()) -> NoReturn:
    """Prints why nothing was done and ends the command."""
    err.print(f"[bold red]error:[/] {escape(sentence)}")
    for line in lines:
        err.print(f"  {escape(line)}")
    raise typer.Exit(BAD_INPUT)


@contextmanager
def refusing() -> Iterator[None]:
    """Turns the errors that are the user's to mend into `refuse`."""
    try:
        yield
    except AppError as error:
        refuse(error.detail, [f"{' '.join(map(str, p.loc))}: {p.msg}" for p in error.errors])
    except EngineError as error:
        refuse(str(error))


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
    """Has libraries behave as in a job's own process; to be called before torch is loaded."""
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
