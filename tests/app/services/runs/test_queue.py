"""The order in which workers take what waits, and changing it."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from app.db import queue as job_queue
from app.errors import Conflict, NotFound
from app.services.runs import jobs
from app.services.runs import queue as queues


def submit(session: Session, name: str, **fields: object) -> int:
    return jobs.submit(session, **{"kind": "scoring", "name": name, "request": {}} | fields).id


def order(session: Session, queue: str = "default") -> list[str]:
    found = next(one for one in queues.list_queues(session) if one.name == queue)
    return [run.name for run in found.waiting]


def taken(session: Session, count: int) -> list[int | None]:
    """What workers fetch, one after the other: the truth that the list must agree with."""
    worker = job_queue.register_worker(session)
    rows = [job_queue.fetch(session, ["default"], worker) for _ in range(count)]
    return [row.job_id if row else None for row in rows]


def test_queues_list_what_runs_and_what_waits_in_the_order_of_its_taking(session: Session) -> None:
    first = jobs.submit(session, kind="scoring", name="first", request={})
    for name, priority in (("a", 0), ("b", 5), ("c", 0)):
        submit(session, name, priority=priority)
    submit(session, "text", queue="interactive")
    jobs.claim(session, first.job.id, "worker")
    worker = job_queue.register_worker(session)
    job_queue.fetch(session, ["default"], worker)  # `b` is held, and nobody has claimed it yet.

    default, interactive = queues.list_queues(session)

    assert [run.name for run in default.running] == ["first"]
    assert [run.name for run in default.waiting] == ["a", "c"]
    assert [run.name for run in interactive.waiting] == ["text"]


def test_a_long_queue_is_shown_by_its_beginning_and_counted_whole(session: Session) -> None:
    for number in range(5):
        submit(session, f"run {number}")

    (queue,) = queues.list_queues(session, limit=2)

    assert [run.name for run in queue.waiting] == ["run 0", "run 1"]
    assert queue.waiting_count == 5


@pytest.mark.parametrize(
    ("name", "where", "expected"),
    [
        ("c", "up", "acbd"),
        ("b", "down", "acbd"),
        ("d", "top", "dabc"),
        ("a", "up", "abcd"),
        ("a", "top", "abcd"),
        ("d", "down", "abcd"),
        ("a", "down", "bacd"),
    ],
)
def test_a_run_moves_by_one_place_or_to_the_top(
    session: Session, name: str, where: queues.Move, expected: str
) -> None:
    ids = {letter: submit(session, letter) for letter in "abcd"}

    queues.move(session, ids[name], where)

    assert "".join(order(session)) == expected
    names = {run.job.id: run.name for one in queues.list_queues(session) for run in one.waiting}
    assert "".join(names[job_id] for job_id in taken(session, 4) if job_id) == expected


def test_moves_among_unequal_priorities_keep_the_rest_in_order(session: Session) -> None:
    ids = {letter: submit(session, letter, priority=9 - i) for i, letter in enumerate("abcd")}

    queues.move(session, ids["d"], "up")
    queues.move(session, ids["d"], "up")
    queues.move(session, ids["a"], "down")

    assert order(session) == ["d", "a", "b", "c"]


def test_a_priority_holds_for_the_job_and_for_its_row(session: Session) -> None:
    low, high = submit(session, "low"), submit(session, "high")

    job = queues.prioritise(session, high, 7)

    assert job.priority == 7
    assert order(session) == ["high", "low"]
    queues.prioritise(session, high, -1)
    assert order(session) == ["low", "high"]
    jobs.cancel(session, low)
    with pytest.raises(Conflict, match="only runs that wait"):
        queues.prioritise(session, low, 1)
    with pytest.raises(NotFound):
        queues.move(session, 10**9, "up")


def test_a_run_that_a_worker_takes_up_just_now_has_no_place_any_more(session: Session) -> None:
    run = submit(session, "a")
    taken(session, 1)

    with pytest.raises(Conflict, match="takes run"):
        queues.move(session, run, "top")
    with pytest.raises(Conflict, match="takes run"):
        queues.prioritise(session, run, 3)


def test_a_retried_run_keeps_its_priority(session: Session) -> None:
    run = jobs.submit(session, kind="scoring", name="a", request={})
    queues.prioritise(session, run.id, 4)
    jobs.cancel(session, run.id)
    jobs.retry(session, run.id)
    submit(session, "b", priority=3)

    assert order(session) == ["a", "b"]
