from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from app.db import queue as job_queue
from app.db.session import Database
from app.db.tables import Job, JobStatus, Run
from app.errors import Conflict, NotFound
from app.services.runs import jobs
from app.services.runs.jobs import Claim, LostJob
from engine.types import Progress


def submitted(session: Session, **fields: object) -> Run:
    return jobs.submit(session, **{"kind": "scoring", "name": "a run", "request": {"a": 1}} | fields)


def running(session: Session, **fields: object) -> Claim:
    claim = jobs.claim(session, submitted(session, **fields).job.id, "one")
    assert claim is not None
    return claim


def rows(session: Session) -> list[tuple[int, str]]:
    """The queue: what job each row stands for, and whether it waits or is done."""
    query = text("SELECT (args ->> 'job_id')::bigint, status::text FROM procrastinate_jobs ORDER BY id")
    return [(job_id, status) for job_id, status in session.execute(query)]


def test_a_submitted_run_waits_in_the_queue(session: Session) -> None:
    run = submitted(session, queue="interactive", priority=3)
    assert run.request == {"a": 1}
    assert (run.job.status, run.job.attempt, run.job.queue) == ("queued", 0, "interactive")
    assert rows(session) == [(run.job.id, "todo")]


def test_a_run_that_is_not_committed_leaves_nothing_in_the_queue(database: Database) -> None:
    def submit_and_fail() -> None:
        with database.session() as session:
            submitted(session)
            raise RuntimeError("the caller fails after it")

    with pytest.raises(RuntimeError):
        submit_and_fail()
    with database.session() as session:
        assert session.scalars(select(Run)).all() == []
        assert rows(session) == []


def test_higher_priority_is_fetched_first(session: Session) -> None:
    low, high = submitted(session), submitted(session, priority=1)
    worker = job_queue.register_worker(session)
    fetched = [job_queue.fetch(session, ["default"], worker) for _ in range(3)]
    assert [row.job_id if row else None for row in fetched] == [high.job.id, low.job.id, None]


def test_a_claim_is_a_new_attempt_and_excludes_any_other(session: Session) -> None:
    run = submitted(session)
    claim = jobs.claim(session, run.job.id, "one")
    assert claim == Claim(job_id=run.job.id, run_id=run.id, kind="scoring", attempt=1)
    assert jobs.claim(session, run.job.id, "two") is None
    assert (run.job.status, run.job.worker_name) == ("running", "one")


def test_a_row_that_the_job_has_left_behind_claims_nothing(session: Session) -> None:
    run = submitted(session)
    assert jobs.claim(session, run.job.id, "one", queue_job_id=run.job.queue_job_id + 1) is None
    assert run.job.status == "queued"


def test_a_report_stores_progress_and_a_line(session: Session) -> None:
    claim = running(session)
    assert jobs.report(session, claim.job_id, 1, Progress("score", 5, 20), "half way") is False
    job = session.get_one(Job, claim.job_id)
    assert (job.phase, job.done, job.total, job.unit) == ("score", 5, 20, "pairs")
    assert [line.message for line in jobs.logs(session, claim.run_id)] == ["half way"]


def test_a_report_of_a_stale_attempt_is_refused(session: Session) -> None:
    claim = running(session)
    jobs.hand_back(session, claim.job_id, 1)
    assert jobs.claim(session, claim.job_id, "two") is not None
    for verb in (
        lambda: jobs.report(session, claim.job_id, 1, Progress("score", 1, 2)),
        lambda: jobs.log(session, claim.job_id, 1, "info", ["late"]),
        lambda: jobs.stored_up_to(session, claim.job_id, 1, 7),
        lambda: jobs.finish(session, claim.job_id, 1, {}),
        lambda: jobs.fail(session, claim.job_id, 1, JobStatus.failed, {"code": "x", "detail": "y"}),
        lambda: jobs.hand_back(session, claim.job_id, 1),
    ):
        with pytest.raises(LostJob):
            verb()
    assert session.get_one(Job, claim.job_id).status == "running"


def test_nothing_is_reported_on_a_job_that_is_over(session: Session) -> None:
    claim = running(session)
    jobs.finish(session, claim.job_id, 1, {"pairs": 2})
    with pytest.raises(LostJob):
        jobs.report(session, claim.job_id, 1)


def test_finishing_writes_the_result_and_the_status(session: Session) -> None:
    claim = running(session)
    jobs.report(session, claim.job_id, 1, Progress("score", 18, 20))
    jobs.finish(session, claim.job_id, 1, {"pairs": 20})
    run = session.get_one(Run, claim.run_id)
    assert run.result == {"pairs": 20}
    job = session.get_one(Job, claim.job_id)
    assert (job.status, job.done) == ("succeeded", 20)
    assert job.finished_at is not None


def test_failing_keeps_the_sentence_in_the_log_too(session: Session) -> None:
    claim = running(session)
    jobs.fail(session, claim.job_id, 1, JobStatus.failed, {"code": "x", "detail": "A sentence."})
    assert session.get_one(Job, claim.job_id).error == {"code": "x", "detail": "A sentence."}
    assert [(line.level, line.message) for line in jobs.logs(session, claim.run_id)] == [
        ("error", "A sentence.")
    ]


def test_cancelling_a_waiting_job_ends_it_and_empties_the_queue(session: Session) -> None:
    run = submitted(session)
    jobs.cancel(session, run.id)
    assert run.job.status == "cancelled"
    assert rows(session) == []
    assert jobs.claim(session, run.job.id, "one") is None


def test_cancelling_a_running_job_is_heard_at_its_next_report(session: Session) -> None:
    claim = running(session)
    assert jobs.cancel(session, claim.run_id).status == "running"
    assert jobs.report(session, claim.job_id, 1) is True
    jobs.hand_back(session, claim.job_id, 1)
    assert session.get_one(Job, claim.job_id).status == "cancelled"


def test_cancelling_twice_is_one_cancellation(session: Session) -> None:
    run = submitted(session)
    jobs.cancel(session, run.id)
    assert jobs.cancel(session, run.id).status == "cancelled"


def test_a_run_that_succeeded_can_neither_be_cancelled_nor_retried(session: Session) -> None:
    claim = running(session)
    jobs.finish(session, claim.job_id, 1, {})
    with pytest.raises(Conflict):
        jobs.cancel(session, claim.run_id)
    with pytest.raises(Conflict):
        jobs.retry(session, claim.run_id)


@pytest.mark.parametrize("verb", [jobs.cancel, jobs.retry])
def test_a_run_that_does_not_exist_is_not_found(session: Session, verb: object) -> None:
    with pytest.raises(NotFound):
        verb(session, 12345)


def test_a_retry_goes_on_after_what_was_stored(session: Session) -> None:
    claim = running(session)
    jobs.stored_up_to(session, claim.job_id, 1, 128)
    jobs.fail(session, claim.job_id, 1, JobStatus.crashed, {"code": "crashed", "detail": "Died."})
    job = jobs.retry(session, claim.run_id)
    assert (job.status, job.resume_from, job.error, job.finished_at) == ("queued", 128, None, None)
    again = jobs.claim(session, job.id, "two")
    assert again is not None
    assert again.attempt == 2


def test_a_waiting_job_is_not_retried(session: Session) -> None:
    with pytest.raises(Conflict):
        jobs.retry(session, submitted(session).id)


def test_a_job_whose_worker_went_silent_is_queued_again(database: Database) -> None:
    claim, row = _taken(database)
    with database.session() as session:
        assert jobs.recover(session, 10) == []
        _silence_workers(session)
    with database.session() as session:
        assert jobs.recover(session, 10) == [claim.job_id]
        job = session.get_one(Job, claim.job_id)
        assert (job.status, job.losses) == ("queued", 1)
        assert job.queue_job_id != row
        assert rows(session) == [(claim.job_id, "todo")]
    with database.session() as session:
        assert jobs.recover(session, 10) == []


def test_a_job_to_be_cancelled_whose_worker_died_is_cancelled(database: Database) -> None:
    claim, _ = _taken(database)
    with database.session() as session:
        jobs.cancel(session, claim.run_id)
        _silence_workers(session)
    with database.session() as session:
        jobs.recover(session, 10)
        assert session.get_one(Job, claim.job_id).status == "cancelled"
        assert rows(session) == []


def test_a_job_that_kills_every_worker_is_given_up(database: Database) -> None:
    claim, _ = _taken(database)
    for loss in range(jobs.MAX_LOSSES):
        with database.session() as session:
            if loss:
                _take(session)
            _silence_workers(session)
        with database.session() as session:
            jobs.recover(session, 10)
    with database.session() as session:
        job = session.get_one(Job, claim.job_id)
        assert job.status == "crashed"
        assert job.error is not None
        assert "3 workers" in job.error["detail"]
        assert jobs.retry(session, claim.run_id).losses == 0


def test_a_running_job_without_a_row_is_queued_again(database: Database) -> None:
    claim, row = _taken(database)
    with database.session() as session:
        job_queue.discard(session, row)
    with database.session() as session:
        assert jobs.recover(session, 10) == [claim.job_id]


def test_the_row_of_a_job_that_is_over_is_cleared_away(database: Database) -> None:
    claim, _ = _taken(database)
    with database.session() as session:
        jobs.finish(session, claim.job_id, claim.attempt, {})
        _silence_workers(session)
    with database.session() as session:
        assert jobs.recover(session, 10) == []
        assert rows(session) == []


def test_an_eta_is_made_of_the_pace_of_this_phase(session: Session) -> None:
    claim = running(session)
    job = session.get_one(Job, claim.job_id)
    assert jobs.eta_seconds(job) is None
    now = datetime.now(UTC)
    session.execute(
        update(Job).values(
            phase_started_at=now - timedelta(seconds=10),
            heartbeat_at=now,
            phase_start_done=100,
            done=150,
            total=250,
        )
    )
    session.refresh(job)
    assert jobs.eta_seconds(job) == pytest.approx(20, abs=1)


def test_log_lines_are_read_on_from_the_last_one(session: Session) -> None:
    claim = running(session)
    jobs.log(session, claim.job_id, 1, "output", ["one", "two\x00", "three" * 2000])
    first, second, third = jobs.logs(session, claim.run_id)
    assert second.message == "two\N{REPLACEMENT CHARACTER}"
    assert len(third.message) == jobs.MAX_LOG_CHARACTERS
    assert [line.message for line in jobs.logs(session, claim.run_id, after_id=first.id, limit=1)] == [
        second.message
    ]
    assert [line.id for line in jobs.log_tail(session, claim.run_id, limit=2)] == [second.id, third.id]


def _taken(database: Database) -> tuple[Claim, int]:
    """A job that a worker has fetched and claimed, and its row in the queue."""
    with database.session() as session:
        submitted(session)
    with database.session() as session:
        return _take(session)


def _take(session: Session) -> tuple[Claim, int]:
    row = job_queue.fetch(session, ["default"], job_queue.register_worker(session))
    assert row is not None
    claim = jobs.claim(session, row.job_id, "one", row.id)
    assert claim is not None
    return claim, row.id


def _silence_workers(session: Session) -> None:
    """Make every worker's last sign of life a minute old."""
    session.execute(text("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 minute'"))
