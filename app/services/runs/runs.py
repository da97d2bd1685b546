"""Runs as the doors show them: a list newest first, one by its id, and the end of one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Select, delete, func, select
from sqlalchemy.orm import Session, joinedload

from app.db.tables import Job, JobStatus, Run
from app.errors import Conflict, NotFound
from app.services.paging import DEFAULT_LIMIT, Page, decode_cursor, encode_cursor, page_limit
from app.services.runs.folders import remove_with

ACTIVE = (JobStatus.queued, JobStatus.running)


def list_runs(
    session: Session,
    kind: str | None = None,
    status: JobStatus | str | None = None,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
    dataset_id: int | None = None,
    name: str | None = None,
) -> Page[Run]:
    """Runs, newest first, each with its job and data set loaded; `name` is a part of theirs, in any case.
    Raises Invalid for a bad limit or cursor."""
    limit = page_limit(limit)
    conditions = _conditions(kind, status, dataset_id, name)
    query = _newest(conditions)
    if cursor is not None:
        (before,) = decode_cursor(cursor, [int])
        query = query.where(Run.id < before)
    found = list(session.scalars(query.limit(limit + 1)))
    items = found[:limit]
    more = len(found) > limit
    counting = select(func.count(Run.id)).join(Job, Job.run_id == Run.id).where(*conditions)
    total = session.execute(counting).scalar_one()
    return Page(items, encode_cursor(items[-1].id) if more else None, total)


def newest_runs(
    session: Session,
    *,
    kind: str | None = None,
    status: JobStatus | str | None = None,
    dataset_id: int | None = None,
    limit: int,
) -> list[Run]:
    """The newest runs as `list_runs` gives them, without how many there are altogether."""
    return list(session.scalars(_newest(_conditions(kind, status, dataset_id, None)).limit(limit)))


def get_run(session: Session, run_id: int) -> Run:
    """One run as the tables have it now, with its job and data set loaded. Raises NotFound."""
    query = (
        select(Run)
        .where(Run.id == run_id)
        .options(joinedload(Run.job), joinedload(Run.dataset))
        .execution_options(populate_existing=True)
    )
    run = session.scalar(query)
    if run is None:
        raise NotFound(f"There is no run {run_id}.")
    return run


def delete_run(session: Session, run_id: int) -> None:
    """Delete a run and all that it left, but for the model that it trained while that is registered.

    Raises NotFound, and Conflict while its job waits or runs, or a training works with its rewards.
    """
    query = (
        select(Job).where(Job.run_id == run_id).with_for_update().execution_options(populate_existing=True)
    )
    job = session.scalar(query)
    if job is None:
        raise NotFound(f"There is no run {run_id}.")
    if not JobStatus(job.status).is_over:
        raise Conflict(f"Run {run_id} is {job.status}; cancel it before you delete it.")
    uses = Run.request.contains({"scoring_run": {"id": run_id}})
    training = session.scalar(select(Run.id).join(Job).where(uses, Job.status.in_(ACTIVE)).limit(1))
    if training is not None:
        raise Conflict(
            f"Run {training} is masked by the rewards of run {run_id}; cancel it, or wait until it is over, "
            "and delete this one then.",
            code="run_in_use",
        )
    remove_with(session, [session.get_one(Run, run_id)])
    session.execute(delete(Run).where(Run.id == run_id))


def ended_since(
    session: Session, moment: datetime, statuses: Sequence[JobStatus], limit: int = DEFAULT_LIMIT
) -> list[Run]:
    """Runs that ended in one of these ways after a moment, the last one first, each with its job loaded."""
    query = (
        select(Run)
        .join(Job, Job.run_id == Run.id)
        .where(Job.finished_at > moment, Job.status.in_(statuses))
        .options(joinedload(Run.job))
        .order_by(Job.finished_at.desc(), Run.id.desc())
        .limit(limit)
    )
    return list(session.scalars(query))


def now(session: Session) -> datetime:
    """The data base's clock, by which runs end."""
    found: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return found


def count_by_status(session: Session) -> dict[str, int]:
    """How many jobs have each status, those that no job has included."""
    counts: dict[str, int] = dict.fromkeys((status.value for status in JobStatus), 0)
    for status, count in session.execute(select(Job.status, func.count()).group_by(Job.status)):
        counts[status] = count
    return counts


def _newest(conditions: Sequence[ColumnElement[bool]]) -> Select[Run]:
    query = select(Run).join(Job, Job.run_id == Run.id).where(*conditions)
    return query.options(joinedload(Run.job), joinedload(Run.dataset)).order_by(Run.id.desc())


def _conditions(
    kind: str | None, status: JobStatus | str | None, dataset_id: int | None, name: str | None
) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if kind is not None:
        conditions.append(Run.kind == kind)
    if status is not None:
        conditions.append(Job.status == status)
    if dataset_id is not None:
        conditions.append(Run.dataset_id == dataset_id)
    if name:
        conditions.append(Run.name.icontains(name, autoescape=True))
    return conditions
