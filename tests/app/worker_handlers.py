"""A worker for tests: runs of kind `test` do one of the jobs of `job_kinds`, and keep what it reports.

As a script, it is a worker process of its own: `python tests/app/worker_handlers.py DATABASE_URL`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.db.session import Database
from app.db.tables import Run
from app.services.runs import jobs
from app.services.runs.kinds import RunKind
from app.settings import Settings
from app.worker import Worker


def prepare(session: Session, run: Run, scratch: Path) -> dict[str, Any]:
    if run.request.get("prepare") == "refuse":
        raise jobs.Conflict("The data set is gone; choose another one.")
    return {"scratch": str(scratch), **run.request, "start": run.job.resume_from}


def store(session: Session, run: Run, attempt: int, chunk: Any) -> None:
    """Keeps every number that the job counts in the run's result, so that none may be missing or doubled."""
    kept = run.result or {"numbers": []}
    run.result = {"numbers": kept["numbers"] + chunk.values}
    jobs.stored_up_to(session, run.job.id, attempt, chunk.start + len(chunk.values))


def finish(session: Session, run: Run, result: dict[str, Any]) -> dict[str, Any]:
    return {**(run.result or {}), **result}


COUNTING = RunKind(
    name="test", word="test", job="tests.app.job_kinds", prepare=prepare, store=store, finish=finish
)
KINDS = {"test": COUNTING}

if __name__ == "__main__":
    url = sys.argv[1]
    Worker(Settings(database_url=url), Database.connect(url), KINDS).run()
