"""What the pages of runs cost where there are 10,000 of them, and a thousand wait.

    python benchmarks/runs_list.py [--runs 10000] [--waiting 1000] [--requests 40]

Starts a PostgreSQL of its own and asks the application for its pages in this process: what is measured is the
whole answer, from the request to the last byte, with the queries. Hold: p95 under 100 ms.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.orm import Session
from support.answers import analyse, measure, scratch_database, signed_in

from app.db.tables import Webhook
from app.services.runs import jobs, workers

ASKED = {
    "home": "/",
    "home, refreshed": "/activity",
    "runs": "/runs",
    "runs of a kind and status": "/runs?kind=training&status=failed",
    "runs by a part of their name": "/runs?name=number+77",
    "queue": "/queue",
    "queue, refreshed": "/queue/state",
    "news of ended runs": "/news",
    "API: 50 runs": "/api/v1/runs",
    "API: failed runs": "/api/v1/runs?status=failed&limit=500",
    "API: the queue": "/api/v1/queue",
}
FILL = """
    WITH made AS (
        INSERT INTO runs (kind, name, request)
        SELECT (ARRAY['scoring', 'training', 'evaluation'])[1 + n % 3], 'Run number ' || n, '{"a": 1}'
        FROM generate_series(1, :count) AS n RETURNING id
    )
    INSERT INTO jobs (run_id, status, attempt, phase, done, total, unit, started_at, finished_at, worker_name)
    SELECT id, (ARRAY['succeeded', 'succeeded', 'succeeded', 'failed', 'cancelled'])[1 + id % 5],
        1, 'scoring', 10, 10, 'pairs', now() - interval '1 hour', now() - id * interval '1 second', 'gpu-1'
    FROM made
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--waiting", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=40, help="of each kind")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, scratch_database(Path(scratch)) as database:
        with database.session() as session:
            fill(session, options.runs, options.waiting)
        analyse(database)
        with signed_in(Path(scratch), database) as client:
            measure(client, ASKED, options.requests)


def fill(session: Session, count: int, waiting: int) -> None:
    """Runs that are over, runs that wait, a worker with one of them, and somebody who is told of ends."""
    session.execute(text(FILL), {"count": count})
    session.add(Webhook(url="http://127.0.0.1:9/hook", statuses=["failed"]))
    workers.beat(session, name="gpu-1", host="node", pid=1, version="0", device="cuda:0", queues=["default"])
    made = [
        jobs.submit(session, kind="scoring", name=f"Waits {n}", request={}).job.id for n in range(waiting)
    ]
    jobs.claim(session, made[0], "gpu-1")


if __name__ == "__main__":
    main()
