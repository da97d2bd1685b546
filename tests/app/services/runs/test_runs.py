from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from app.db.tables import Run
from app.errors import Conflict, Invalid, NotFound
from app.services.runs import jobs, runs


def submitted(session: Session, kind: str = "scoring") -> Run:
    return jobs.submit(session, kind=kind, name="a run", request={})


def test_runs_are_listed_newest_first_and_page_by_page(session: Session) -> None:
    ids = [submitted(session).id for _ in range(5)]
    first = runs.list_runs(session, limit=3)
    assert [run.id for run in first.items] == ids[:1:-1]
    assert first.total == 5
    second = runs.list_runs(session, limit=3, cursor=first.next_cursor)
    assert [run.id for run in second.items] == ids[1::-1]
    assert second.next_cursor is None


def test_a_list_without_runs_is_an_empty_page(session: Session) -> None:
    page = runs.list_runs(session)
    assert (page.items, page.next_cursor, page.total) == ([], None, 0)


def test_runs_are_filtered_by_kind_and_status(session: Session) -> None:
    demo, waiting = submitted(session, "demo"), submitted(session)
    jobs.cancel(session, demo.id)
    assert [run.id for run in runs.list_runs(session, kind="demo").items] == [demo.id]
    assert [run.id for run in runs.list_runs(session, status="queued").items] == [waiting.id]
    assert runs.list_runs(session, status="queued").total == 1


def test_a_listed_run_carries_its_job_and_data_set(session: Session) -> None:
    submitted(session)
    (run,) = runs.list_runs(session).items
    assert run.job.status == "queued"
    assert run.dataset is None


def test_a_cursor_of_another_list_is_refused(session: Session) -> None:
    with pytest.raises(Invalid):
        runs.list_runs(session, cursor="bm9uc2Vuc2U")


def test_a_run_is_found_by_its_id(session: Session) -> None:
    run = submitted(session)
    assert runs.get_run(session, run.id).job.status == "queued"
    with pytest.raises(NotFound):
        runs.get_run(session, run.id + 1)


def test_a_run_is_deleted_only_once_it_is_over(session: Session) -> None:
    run = submitted(session)
    with pytest.raises(Conflict):
        runs.delete_run(session, run.id)
    jobs.cancel(session, run.id)
    runs.delete_run(session, run.id)
    with pytest.raises(NotFound):
        runs.get_run(session, run.id)
    with pytest.raises(NotFound):
        runs.delete_run(session, run.id)


def test_jobs_are_counted_by_status(session: Session) -> None:
    submitted(session)
    counts = runs.count_by_status(session)
    assert counts["queued"] == 1
    assert counts["crashed"] == 0
