"""Task suites: brought in whole or not at all, kept while they are used, written out as they came."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.tables import StoredTask, TaskSuite
from app.errors import Conflict, Forbidden, Invalid, NotFound, StorageFull
from app.services.evaluations import evaluations, task_suites
from app.services.evaluations.evaluations import EvaluationBody
from app.services.runs import jobs
from app.settings import Settings
from engine.errors import DataError
from engine.formats.reading import read_suite
from engine.tasks import Code, Number, Task
from tests.app import factories

SUMS = [
    Task(key=f"sum-{n}", prompt=f"{n} + 1 =", checker=Number(value=n + 1), category="sums") for n in range(3)
]
CODE = Task(key="code", prompt="def one():", checker=Code(test="assert one() == 1"))


def brought(session: Session, tasks: Sequence[Any] = SUMS, name: str = "sums") -> TaskSuite:
    return task_suites.import_tasks(session, tasks, name=name, origin={"kind": "rows"})


def file_of(*rows: dict[str, Any]) -> io.BytesIO:
    return io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode())


def test_a_suite_comes_and_goes_out_as_it_was(session: Session, tmp_path: Path) -> None:
    suite = brought(session)
    assert (suite.name, suite.task_count, suite.categories, suite.runs_code) == (
        "sums",
        3,
        {"sums": 3},
        False,
    )
    records = [{"id": suite.id, "name": suite.name}]
    (written,) = task_suites.write_suites(session, records, tmp_path)
    assert written["name"] == "sums"
    assert list(read_suite(Path(written["path"]))) == SUMS


def test_rows_of_a_public_suite_are_read(session: Session, settings: Settings) -> None:
    rows = [{"question": "What is 40 + 2?", "answer": "40 + 2 = 42\n#### 42"}]
    suite = task_suites.import_file(session, file_of(*rows), "gsm8k.jsonl", settings=settings)
    (task,) = task_suites.list_tasks(session, suite.id).items
    assert (suite.name, task.task["checker"]["value"]) == ("gsm8k", 42)


def test_a_file_that_the_server_sees_is_read(session: Session, settings: Settings, tmp_path: Path) -> None:
    place = tmp_path / "mine.jsonl"
    place.write_bytes(file_of({"prompt": "1 + 1 =", "answer": 2}).read())
    assert task_suites.import_path(session, place, settings=settings).name == "mine"
    with pytest.raises(Invalid, match="is no file that the server sees"):
        task_suites.import_path(session, tmp_path, settings=settings)


def test_the_same_tasks_under_the_same_name_are_the_same_suite(session: Session) -> None:
    first = brought(session)
    assert brought(session) is first
    assert brought(session, name="others").id != first.id
    with pytest.raises(Conflict, match="with other tasks already") as refused:
        brought(session, SUMS[:2])
    assert refused.value.code == "name_taken"


def test_one_bad_row_refuses_all(session: Session, settings: Settings) -> None:
    good, bad = {"prompt": "1 + 1 =", "answer": 2}, {"prompt": "?"}
    with pytest.raises(Invalid, match="Nothing was imported") as refused:
        task_suites.import_file(session, file_of(good, bad, good), "x.jsonl", settings=settings)
    assert refused.value.errors[0].loc[:2] == ("line", 2)
    assert session.scalar(select(func.count()).select_from(StoredTask)) == 0


def test_two_tasks_of_one_key_are_refused(session: Session) -> None:
    with pytest.raises(Invalid, match="`sum-0` is taken") as refused:
        brought(session, [SUMS[0], SUMS[1], SUMS[0]])
    assert refused.value.errors[0].loc == ("line", 3, "key")


def test_a_suite_of_nothing_is_refused(session: Session, settings: Settings) -> None:
    with pytest.raises(Invalid, match="no task"):
        brought(session, [])
    with pytest.raises(DataError):
        task_suites.import_file(session, io.BytesIO(b"\n"), "empty.jsonl", settings=settings)
    with pytest.raises(Invalid, match="printable"):
        brought(session, name=" \n ")
    full = settings.model_copy(update={"min_free_disk_mib": 2**40})
    with pytest.raises(StorageFull):
        task_suites.import_file(session, file_of({"prompt": "?", "answer": 1}), "x.jsonl", settings=full)


def test_suites_and_tasks_are_listed_page_by_page(session: Session) -> None:
    suites = [brought(session, name=name) for name in ("one", "two", "three")]
    first = task_suites.list_suites(session, limit=2)
    second = task_suites.list_suites(session, limit=2, cursor=first.next_cursor)
    assert [suite.name for page in (first, second) for suite in page.items] == ["three", "two", "one"]
    page = task_suites.list_tasks(session, suites[0].id, limit=2)
    rest = task_suites.list_tasks(session, suites[0].id, limit=2, cursor=page.next_cursor)
    assert [task.task["key"] for one in (page, rest) for task in one.items] == ["sum-0", "sum-1", "sum-2"]
    assert (page.total, rest.next_cursor) == (3, None)
    with pytest.raises(NotFound):
        task_suites.list_tasks(session, 10**6)


def test_a_suite_stays_while_a_run_uses_it(session: Session, settings: Settings) -> None:
    suite = brought(session)
    model = factories.make_model(session, settings)
    run = evaluations.submit(
        session, settings, EvaluationBody.model_validate({"model": model.id, "suite_ids": [suite.id]})
    )
    with pytest.raises(Conflict, match=f"Run {run.id} uses the task suite") as refused:
        task_suites.delete_suite(session, suite.id)
    assert refused.value.code == "suite_in_use"
    jobs.cancel(session, run.id)
    task_suites.delete_suite(session, suite.id)
    assert session.scalar(select(func.count()).select_from(StoredTask)) == 0
    with pytest.raises(NotFound):
        task_suites.delete_suite(session, suite.id)


def test_code_runs_only_where_it_is_allowed(session: Session, settings: Settings) -> None:
    suite = brought(session, [CODE])
    assert suite.runs_code
    with pytest.raises(Forbidden, match="REWARDSCOPE_ALLOW_CODE") as refused:
        task_suites.resolve_suites(session, settings, [suite.id])
    assert refused.value.code == "code_not_allowed"
    allowing = settings.model_copy(update={"allow_code": True})
    assert task_suites.resolve_suites(session, allowing, [suite.id])[0]["tasks"] == 1


def test_a_suite_that_is_named_twice_or_gone_is_refused(
    session: Session, settings: Settings, tmp_path: Path
) -> None:
    suite = brought(session)
    with pytest.raises(Invalid, match="named twice") as refused:
        task_suites.resolve_suites(session, settings, [suite.id, suite.id])
    assert refused.value.errors[0].loc == ("body", "suite_ids", 1)
    with pytest.raises(Invalid, match="no task suite"):
        task_suites.resolve_suites(session, settings, [suite.id + 1])
    with pytest.raises(Conflict, match="was deleted"):
        task_suites.write_suites(session, [{"id": suite.id + 1, "name": "gone"}], tmp_path)
