"""Task suites: the list, the form that brings one in, and one with its tasks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from sqlalchemy.orm import Session

from app.db.tables import StoredTask, TaskSuite
from app.dependencies import SessionDep, SettingsDep
from app.errors import AppError, Invalid, sentence_of, status_of
from app.pages.datasets.datasets import RowFault, faults_of
from app.pages.parts.forms import filled
from app.pages.parts.numbers import count, shortened
from app.pages.parts.rendering import PageContext, render, see_other, url_of
from app.services.evaluations import task_suites
from engine.errors import EngineError
from engine.formats.listing import ENDINGS, file_labels

SNIPPET = 280
CHECKERS = {
    "exact": "is one of",
    "regex": "matches",
    "number": "ends in the number",
    "choice": "prefers",
    "code": "passes the test",
}

router = APIRouter()


@dataclass(frozen=True, slots=True)
class SuiteLine:
    """A suite in the list."""

    name: str
    address: str
    tasks: int
    categories: str
    runs_code: bool
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SuitesPage(PageContext):
    """The list and the form, with what was wrong the last time."""

    suites: list[SuiteLine]
    first_url: str | None
    next_url: str | None
    action: str
    name: str
    path: str
    problem: str | None
    faults: list[RowFault]
    code_is_allowed: bool
    file_types: str
    accept: str


@dataclass(frozen=True, slots=True)
class TaskLine:
    """One task."""

    key: str
    prompt: str
    prefix: str
    check: str
    """What an answer must do, in words."""
    category: str
    is_kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SuitePage(PageContext):
    """One suite."""

    name: str
    facts: list[tuple[str, str]]
    runs_code: bool
    tasks: list[TaskLine]
    first_url: str | None
    next_url: str | None
    delete_url: str


@router.get("/suites", name="pages:suites")
def show_suites(request: Request, session: SessionDep, settings: SettingsDep) -> Response:
    """The list and the form."""
    return render(request, "evaluations/suites.html", _page(request, session, settings.allow_code))


@router.post("/suites", name="pages:suite_create")
def create_suite(
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    file: Annotated[UploadFile | None, File()] = None,
    path: Annotated[str, Form()] = "",
    name: Annotated[str, Form()] = "",
) -> Response:
    """Brings a suite in whole, or shows the rows that are wrong and stores nothing."""
    called = name.strip() or None
    try:
        with session.begin_nested():
            if file is not None and file.filename:
                suite = task_suites.import_file(
                    session, file.file, file.filename, settings=settings, name=called
                )
            elif path.strip():
                suite = task_suites.import_path(session, path.strip(), settings=settings, name=called)
            else:
                raise Invalid("Choose a file, or name one that the server can read.")
    except (AppError, EngineError) as error:
        page = _page(request, session, settings.allow_code, name, path, error)
        return render(request, "evaluations/suites.html", page, status=status_of(error))
    return see_other(url_of(request, "suite", suite_id=suite.id))


@router.get("/suites/{suite_id:int}", name="pages:suite")
def show_suite(request: Request, session: SessionDep, suite_id: int) -> Response:
    """One suite with its tasks."""
    suite = task_suites.get_suite(session, suite_id)
    cursor = filled(request.query_params).get("cursor")
    found = task_suites.list_tasks(session, suite_id, cursor=cursor)
    following = {"cursor": found.next_cursor}
    page = SuitePage(
        title=suite.name,
        section="models",
        name=suite.name,
        facts=_facts(suite),
        runs_code=suite.runs_code,
        tasks=[_task(row) for row in found.items],
        first_url=url_of(request, "suite", suite_id=suite_id) if cursor else None,
        next_url=url_of(request, "suite", following, suite_id=suite_id) if found.next_cursor else None,
        delete_url=url_of(request, "suite_delete", suite_id=suite_id),
    )
    return render(request, "evaluations/suite.html", page)


@router.post("/suites/{suite_id:int}/delete", name="pages:suite_delete")
def delete_suite(request: Request, session: SessionDep, suite_id: int) -> Response:
    """Deletes the suite with its tasks; figures of it stay."""
    task_suites.delete_suite(session, suite_id)
    return see_other(url_of(request, "suites"))


def _page(
    request: Request,
    session: Session,
    code_is_allowed: bool,
    name: str = "",
    path: str = "",
    error: AppError | EngineError | None = None,
) -> SuitesPage:
    cursor = filled(request.query_params).get("cursor")
    found = task_suites.list_suites(session, cursor=cursor)
    return SuitesPage(
        title="Task suites",
        section="models",
        suites=[_line(request, suite) for suite in found.items],
        first_url=url_of(request, "suites") if cursor else None,
        next_url=url_of(request, "suites", {"cursor": found.next_cursor}) if found.next_cursor else None,
        action=url_of(request, "suite_create"),
        name=name,
        path=path,
        problem=None if error is None else sentence_of(error),
        faults=[] if error is None else faults_of(error),
        code_is_allowed=code_is_allowed,
        file_types=file_labels(),
        accept=",".join(ENDINGS),
    )


def _line(request: Request, suite: TaskSuite) -> SuiteLine:
    return SuiteLine(
        name=suite.name,
        address=url_of(request, "suite", suite_id=suite.id),
        tasks=suite.task_count,
        categories=shortened(", ".join(name for name in suite.categories if name), 80),
        runs_code=suite.runs_code,
        created_at=suite.created_at,
    )


def _facts(suite: TaskSuite) -> list[tuple[str, str]]:
    told = [(count(suite.task_count), "task" if suite.task_count == 1 else "tasks")]
    told += [(count(tasks), name) for name, tasks in suite.categories.items() if name]
    place = suite.origin.get("filename") or suite.origin.get("path")
    told.append(("", " ".join(filter(None, [str(suite.origin.get("kind", "")), shortened(place, 80)]))))
    return told


def _task(row: StoredTask) -> TaskLine:
    task = row.task
    prompt = task["prompt"]
    if isinstance(prompt, list):
        prompt = "\n".join(f"{turn.get('role', '')}: {turn.get('content', '')}" for turn in prompt)
    return TaskLine(
        key=str(task["key"]),
        prompt=_cut(str(prompt)),
        prefix=_cut(str(task.get("prefix", ""))),
        check=_check(task["checker"]),
        category=str(task.get("category", "")),
        is_kept=bool(task.get("kept")),
    )


def _check(checker: dict[str, Any]) -> str:
    kind = checker["kind"]
    words = CHECKERS.get(kind, kind)
    if kind == "exact":
        words = "begins with one of" if checker.get("prefix") else words
        return _cut(f"{words} {' | '.join(map(str, checker['answers']))}")
    if kind == "choice":
        return _cut(f"{words} {checker['options'][checker['right']]} of {' | '.join(checker['options'])}")
    told = {"regex": "pattern", "number": "value", "code": "test"}.get(kind)
    return _cut(f"{words} {checker.get(told, '') if told else ''}")


def _cut(text: str) -> str:
    return text if len(text) <= SNIPPET else text[: SNIPPET - 1] + "…"
