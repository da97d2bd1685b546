"""Task suites: uploaded, sent as rows or named by path, listed, looked into, deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import Depends
from pydantic import Field, model_validator
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import JSONResponse

from app.api.parts import lists, uploads
from app.api.parts.common import PREFIX, Id, View, door
from app.api.parts.idempotency import Done, OnceDep
from app.api.parts.lists import Listing, PagingDep
from app.api.parts.uploads import FileForm, Upload, openapi_body
from app.db.tables import StoredTask, TaskSuite
from app.dependencies import DatabaseDep, SessionDep, SettingsDep
from app.problems import responses
from app.services.evaluations import task_suites
from app.services.paging import Page
from engine.fields import StrictModel, shown
from engine.tasks import Task


class SuiteImport(StrictModel):
    """Tasks as rows, or a file that the server can read."""

    name: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        title="Name",
        json_schema_extra=shown(blank="as the file is called"),
    )
    """What the suite is called; rows need a name."""
    path: str | None = Field(None, min_length=1, max_length=4096)
    """A file that the server can read, instead of tasks."""
    tasks: list[Task] | None = Field(None, min_length=1, max_length=10_000)
    """The tasks as rows, instead of a path."""

    @model_validator(mode="after")
    def _comes_from_one_place(self) -> Self:
        if (self.path is None) == (self.tasks is None):
            raise ValueError("Give `tasks` or `path`.")
        if self.tasks is not None and self.name is None:
            raise ValueError("Give the tasks a `name`.")
        return self


class SuiteFile(FileForm):
    """The form that comes with a file of tasks."""

    name: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        title="Name",
        json_schema_extra=shown(blank="as the file is called"),
    )
    """What the suite is called."""


class SuiteView(View):
    """Prompts with programmatic checks."""

    id: int
    name: str
    origin: dict[str, Any]
    content_hash: str
    task_count: int
    categories: dict[str, int]
    """How many tasks each category has."""
    runs_code: bool
    """Whether a checker executes what the model writes: such a suite runs only where that is allowed."""
    created_at: datetime


class TaskView(Task):
    """One task of a suite."""

    position: int
    """Place in the suite, from 0."""

    @classmethod
    def of(cls, stored: StoredTask) -> TaskView:
        """The view of a stored task."""
        return cls.model_validate({**stored.task, "position": stored.position})


async def read_body(request: Request) -> AsyncIterator[Upload[SuiteFile] | SuiteImport]:
    """The upload, or what the JSON says. Raises RequestValidationError, HTTPException (415)."""
    otherwise = "Send a file as multipart/form-data, or tasks or a path as application/json."
    async with uploads.read_body(request, SuiteFile, SuiteImport, otherwise) as body:
        yield body


BodyDep = Annotated[Upload[SuiteFile] | SuiteImport, Depends(read_body)]

router = door("task-suites")


@router.post(
    "",
    status_code=201,
    response_model=SuiteView,
    responses=responses(409, 415, 507),
    openapi_extra=openapi_body(SuiteFile, SuiteImport),
)
def create_suite(body: BodyDep, session: SessionDep, settings: SettingsDep, once: OnceDep) -> JSONResponse:
    """Brings a task suite in, all of it or nothing; the same tasks under the same name are the same suite."""

    def work() -> Done:
        if isinstance(body, Upload):
            suite = task_suites.import_file(
                session, body.file, body.filename, settings=settings, name=body.form.name
            )
        elif body.tasks is not None:
            origin = {"kind": "rows"}
            suite = task_suites.import_tasks(session, body.tasks, name=body.name or "", origin=origin)
        else:
            suite = task_suites.import_path(session, body.path or "", settings=settings, name=body.name)
        return _created(suite)

    payload = body.payload() if isinstance(body, Upload) else body.model_dump_json().encode()
    return once.answer(session, payload, work)


def _created(suite: TaskSuite) -> Done:
    return Done(201, SuiteView.model_validate(suite), {"Location": f"{PREFIX}/task-suites/{suite.id}"})


@router.get("", response_model=Listing[SuiteView], responses=lists.FILES)
def list_suites(paging: PagingDep, database: DatabaseDep) -> Any:
    """Task suites, newest first."""

    def fetch(session: Session, limit: int, cursor: str | None) -> Page[SuiteView]:
        page = task_suites.list_suites(session, limit=limit, cursor=cursor)
        return Page([SuiteView.model_validate(suite) for suite in page.items], page.next_cursor, page.total)

    return lists.answer(database, paging, fetch, SuiteView, "task-suites")


@router.get("/{suite_id}")
def read_suite(suite_id: Id, session: SessionDep) -> SuiteView:
    """One task suite."""
    return SuiteView.model_validate(task_suites.get_suite(session, suite_id))


@router.get("/{suite_id}/tasks", response_model=Listing[TaskView], responses=lists.FILES)
def list_tasks(suite_id: Id, paging: PagingDep, database: DatabaseDep) -> Any:
    """The tasks of a suite, in their order."""

    def fetch(session: Session, limit: int, cursor: str | None) -> Page[TaskView]:
        page = task_suites.list_tasks(session, suite_id, limit=limit, cursor=cursor)
        return Page([TaskView.of(task) for task in page.items], page.next_cursor, page.total)

    return lists.answer(database, paging, fetch, TaskView, f"tasks-{suite_id}")


@router.delete("/{suite_id}", status_code=204, responses=responses(409))
def delete_suite(suite_id: Id, session: SessionDep) -> None:
    """Removes a task suite, unless a run uses it; figures that were measured on it stay."""
    task_suites.delete_suite(session, suite_id)
