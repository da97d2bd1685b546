"""What the pages of runs cost where there are 10,000 of them, and a thousand wait.

    python benchmarks/runs_list.py [--runs 10000] [--waiting 1000] [--requests 40]

Starts a PostgreSQL of its own and asks the application for its pages in this process: what is measured is the
whole answer, from the request to the last byte, with the queries. Hold: p95 under 100 ms.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from rewardscope.app.db import migrate
from rewardscope.app.db.embedded import EmbeddedPostgres
from rewardscope.app.db.models import Webhook
from rewardscope.app.db.session import Database
from rewardscope.app.main import create_app
from rewardscope.app.services import jobs, workers
from rewardscope.app.settings import Settings

TOKEN = "a-token-for-benchmarks-0123456789"
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
    with tempfile.TemporaryDirectory() as scratch:
        server = EmbeddedPostgres(Path(scratch))
        url = server.start()
        try:
            migrate.upgrade(url)
            database = Database.connect(url)
            with database.session() as session:
                fill(session, options.runs, options.waiting)
            with database.engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))
            settings = Settings(data_dir=Path(scratch), database_url=url, token=TOKEN, device="cpu")
            measure(settings, database, options.requests)
            database.dispose()
        finally:
            server.stop()


def fill(session: Session, count: int, waiting: int) -> None:
    """Runs that are over, runs that wait, a worker with one of them, and somebody who is told of ends."""
    session.execute(text(FILL), {"count": count})
    session.add(Webhook(url="http://127.0.0.1:9/hook", statuses=["failed"]))
    workers.beat(session, name="gpu-1", host="node", pid=1, version="0", device="cuda:0", queues=["default"])
    made = [
        jobs.submit(session, kind="scoring", name=f"Waits {n}", request={}).job.id for n in range(waiting)
    ]
    jobs.claim(session, made[0], "gpu-1")


def measure(settings: Settings, database: Database, requests: int) -> None:
    """Asks for every kind of page and prints a line for each."""
    asked = {
        "home": "/",
        "home, refreshed": "/activity",
        "runs": "/runs",
        "queue": "/queue",
        "queue, refreshed": "/queue/state",
        "news of ended runs": "/news",
        "API: 50 runs": "/api/v1/runs",
        "API: failed runs": "/api/v1/runs?status=failed&limit=500",
        "API: the queue": "/api/v1/queue",
    }
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "text/html"}
    with TestClient(
        create_app(settings, database), base_url="http://127.0.0.1:8321", headers=headers
    ) as client:
        print(f"{'':24} {'first':>8} {'median':>8} {'p95':>8}   milliseconds")
        for name, address in asked.items():
            taken = []
            for _ in range(requests):
                started = time.perf_counter()
                answer = client.get(address)
                taken.append(1000 * (time.perf_counter() - started))
                assert answer.status_code == 200, answer.text[:500]
            first, *rest = taken
            print(f"{name:24} {first:8.1f} {np.median(rest):8.1f} {np.quantile(rest, 0.95):8.1f}")


if __name__ == "__main__":
    main()
