"""Task suites: brought in all or nothing, listed, deleted, and written out for jobs."""

from __future__ import annotations

import errno
import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.bulk import copy_rows
from app.db.tables import Job, Recipe, Run, StoredTask, TaskSuite
from app.errors import Conflict, Forbidden, Invalid, NotFound, Problem
from app.services.datasets.datasets import ACTIVE, SHOWN_ERRORS, check_disk
from app.services.names import clean_name, file_name, name_of_file
from app.services.paging import DEFAULT_LIMIT, Page, decode_cursor, encode_cursor, page_limit
from app.services.roots import readable, unreadable
from app.settings import Settings
from engine.apart import read_tasks_apart
from engine.errors import RowError
from engine.formats.atomic import atomic_file
from engine.formats.canonical import json_line
from engine.tasks import Code, Task

_IN_MEMORY_BYTES = 2**22
_COLUMNS = ("suite_id", "position", "task")


def import_tasks(
    session: Session, tasks: Iterable[Task | RowError], *, name: str, origin: dict[str, Any]
) -> TaskSuite:
    """A new suite of `tasks`, streamed; where a suite of this name has the same tasks already, that one.

    Raises Conflict (the name is taken by other tasks) and Invalid (a bad row, with up to 100 errors at
    ("line", n[, field]), two tasks of one key, or no task at all); nothing of the suite stays then.
    """
    name = clean_name(name, "A task suite")
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as lines:
        census = _Census()
        for row in census.passing(tasks):
            lines.write(json_line(row))
        census.check()
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("rewardscope suites", 0))))
        known = session.scalar(select(TaskSuite).where(TaskSuite.name == name))
        if known is not None and known.content_hash == census.digest.hexdigest():
            return known
        if known is not None:
            raise _name_taken(name)
        lines.seek(0)
        return _stored(session, name, origin, census, (line.decode() for line in lines))


def import_file(
    session: Session, file: BinaryIO, filename: str, *, settings: Settings, name: str | None = None
) -> TaskSuite:
    """A suite from an uploaded file: our own rows, or a public suite's shape, which its columns tell.

    `name` defaults to the file's. Raises as `import_tasks`, DataError (no file of tasks), and StorageFull.
    """
    check_disk(settings)
    called = file_name(filename)
    origin = {"kind": "upload", "filename": called}
    return import_tasks(session, read_tasks_apart(file), name=name or name_of_file(called), origin=origin)


def import_path(
    session: Session, path: str | Path, *, settings: Settings, name: str | None = None
) -> TaskSuite:
    """A suite from a file that the server sees. Raises as `import_file`."""
    check_disk(settings)
    place = readable(settings, "data", path, field="file")
    origin = {"kind": "file", "path": str(place)}
    try:
        if not place.is_file():
            raise unreadable(place, "is no file that the server sees", "file")
        return import_tasks(
            session, read_tasks_apart(place), name=name or name_of_file(place.name), origin=origin
        )
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise unreadable(place, f"cannot be read ({error.strerror or error})", "file") from error


def list_suites(
    session: Session, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[TaskSuite]:
    """Suites, newest first."""
    query = select(TaskSuite).order_by(TaskSuite.id.desc()).limit(page_limit(limit) + 1)
    if cursor is not None:
        query = query.where(TaskSuite.id < decode_cursor(cursor, [int])[0])
    found = list(session.scalars(query))
    return Page(found[:limit], encode_cursor(found[limit - 1].id) if len(found) > limit else None)


def get_suite(session: Session, suite_id: int) -> TaskSuite:
    """The suite. Raises NotFound."""
    suite = session.get(TaskSuite, suite_id)
    if suite is None:
        raise NotFound(f"There is no task suite {suite_id}; the list of task suites shows those that exist.")
    return suite


def list_tasks(
    session: Session, suite_id: int, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[StoredTask]:
    """The tasks of a suite in their order. Raises NotFound."""
    suite = get_suite(session, suite_id)
    query = select(StoredTask).where(StoredTask.suite_id == suite_id).order_by(StoredTask.position)
    if cursor is not None:
        query = query.where(StoredTask.position > decode_cursor(cursor, [int])[0])
    found = list(session.scalars(query.limit(page_limit(limit) + 1)))
    more = encode_cursor(found[limit - 1].position) if len(found) > limit else None
    return Page(found[:limit], more, suite.task_count)


def delete_suite(session: Session, suite_id: int) -> None:
    """Removes the suite with its tasks. Raises NotFound, and Conflict while a run or a recipe uses it."""
    # The lock keeps a run from being submitted between the look and the deletion.
    suite = session.get(TaskSuite, suite_id, with_for_update=True)
    if suite is None:
        get_suite(session, suite_id)
        return
    used = or_(
        Run.request["suites"].contains([{"id": suite_id}]), Recipe.request["suite_ids"].contains([suite_id])
    )
    active = select(Run.id).join(Job).outerjoin(Recipe).where(Job.status.in_(ACTIVE), used).limit(1)
    run_id = session.scalar(active)
    if run_id is not None:
        raise Conflict(
            f"Run {run_id} uses the task suite `{suite.name}`; cancel it, or wait until it is over, and "
            "delete the suite then.",
            code="suite_in_use",
        )
    session.delete(suite)
    session.flush()


# ----------------------------------------------------------------------------------------------- in requests


def resolve_suites(session: Session, settings: Settings, suite_ids: Sequence[int]) -> list[dict[str, Any]]:
    """What a run keeps of its suites, as `request["suites"]`: [{"id", "name", "content_hash", "tasks"}].

    Nobody deletes them before this transaction ends. Raises Invalid (no such suite, or one named twice) and
    Forbidden (a suite runs code, which no administrator allowed).
    """
    records = []
    for place, suite_id in enumerate(suite_ids):
        suite = session.get(
            TaskSuite, suite_id, with_for_update={"read": True, "key_share": True}, populate_existing=True
        )
        if suite is None:
            raise Invalid(
                f"There is no task suite {suite_id}; choose one from the list of task suites.",
                errors=[Problem(("body", "suite_ids", place), "is no task suite")],
            )
        if suite_id in suite_ids[:place]:
            raise Invalid(
                f"The task suite `{suite.name}` is named twice; name each suite once.",
                errors=[Problem(("body", "suite_ids", place), "is named twice")],
            )
        if suite.runs_code and not settings.allow_code:
            raise Forbidden(
                f"The task suite `{suite.name}` runs what the model writes as code; an administrator can "
                "allow that by setting REWARDSCOPE_ALLOW_CODE=true.",
                code="code_not_allowed",
            )
        records.append(
            {
                "id": suite.id,
                "name": suite.name,
                "content_hash": suite.content_hash,
                "tasks": suite.task_count,
            }
        )
    return records


def write_suites(
    session: Session, records: Sequence[Mapping[str, Any]], scratch: Path
) -> list[dict[str, str]]:
    """Writes the suites of `request["suites"]` below `scratch`; what a job's request says of them:
    [{"name", "path"}]. Raises Conflict for a suite that is gone."""
    written = []
    for record in records:
        path = scratch / f"suite-{record['id']}.jsonl"
        if not write_tasks(session, record["id"], path):
            raise Conflict(
                f"The task suite `{record['name']}` was deleted; import it again and submit a new run.",
                code="suite_gone",
            )
        written.append({"name": str(record["name"]), "path": str(path)})
    return written


def write_tasks(session: Session, suite_id: int, path: Path) -> int:
    """Writes the tasks of a suite as canonical JSONL, whole or not at all; returns how many."""
    query = (
        select(StoredTask.task)
        .where(StoredTask.suite_id == suite_id)
        .order_by(StoredTask.position)
        .execution_options(yield_per=500)
    )
    count = 0
    with atomic_file(path) as file:
        for count, task in enumerate(session.scalars(query), start=1):  # noqa: B007 - the number of tasks
            file.write(json_line(task))
    return count


# ------------------------------------------------------------------------------------------------- importing


@dataclass(slots=True)
class _Census:
    """What went by while tasks were read: their number, categories and hash, and the rows refused."""

    tasks: int = 0
    runs_code: bool = False
    categories: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    errors: list[RowError] = field(default_factory=list)
    digest: Any = field(default_factory=hashlib.sha256)

    def passing(self, tasks: Iterable[Task | RowError]) -> Iterator[dict[str, Any]]:
        """The rows that are to be stored. After a refusal none is; reading goes on to tell of others."""
        for number, task in enumerate(tasks, start=1):
            if isinstance(task, Task) and task.key in self.keys:
                task = RowError(number, f"The key `{task.key}` is taken by an earlier task.", "key")
            if isinstance(task, RowError):
                self.errors.append(task)
                if len(self.errors) == SHOWN_ERRORS:
                    return
            elif not self.errors:
                yield self._counted(task)

    def check(self) -> None:
        """Raises Invalid if there is nothing to store, or something that must not be."""
        if self.errors:
            more = " or more" if len(self.errors) == SHOWN_ERRORS else ""
            rows = "1 row" if len(self.errors) == 1 else f"{len(self.errors)}{more} rows"
            raise Invalid(
                f"{rows} cannot be used, the first on {str(self.errors[0]).rstrip('.')}. Nothing was "
                "imported; correct the rows and import the file again.",
                code="invalid_rows",
                errors=[Problem(_place(error), error.reason) for error in self.errors],
            )
        if not self.tasks:
            raise Invalid("There is no task in the data; send at least one.", code="no_rows")

    def _counted(self, task: Task) -> dict[str, Any]:
        row = task.model_dump(mode="json")
        self.digest.update(json_line(row))
        self.tasks += 1
        self.keys.add(task.key)
        self.categories[task.category] += 1
        self.runs_code |= isinstance(task.checker, Code)
        return row


def _stored(
    session: Session, name: str, origin: dict[str, Any], census: _Census, lines: Iterator[str]
) -> TaskSuite:
    suite = TaskSuite(
        name=name,
        origin=origin,
        content_hash=census.digest.hexdigest(),
        task_count=census.tasks,
        categories=dict(census.categories),
        runs_code=census.runs_code,
    )
    with session.begin_nested():
        session.add(suite)
        try:
            session.flush()
        except IntegrityError as error:
            raise _name_taken(name) from error
        rows = ((suite.id, position, line) for position, line in enumerate(lines))
        copy_rows(session, "tasks", _COLUMNS, rows)
    session.refresh(suite, ["created_at"])
    return suite


def _place(error: RowError) -> tuple[str | int, ...]:
    return ("line", error.line) if error.field is None else ("line", error.line, error.field)


def _name_taken(name: str) -> Conflict:
    return Conflict(
        f"There is a task suite `{name}` with other tasks already; choose another name, or delete that one.",
        code="name_taken",
        errors=[Problem(("body", "name"), "is taken")],
    )
