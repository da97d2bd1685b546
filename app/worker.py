"""The worker process: takes jobs from the queue and does each in a process of its own. Imports no torch.

It sends signs of life, queues jobs again whose worker is gone, reports ended runs to webhooks, and hands back
its own jobs when asked to stop. One job at a time runs of each queue; jobs of the interactive queue share a
process that keeps its models.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from importlib.metadata import version

import procrastinate
import structlog
from procrastinate.job_context import AbortReason

from app.attempt import Attempt, Stop, patiently
from app.db import queue as job_queue
from app.db.queue import QueueRow
from app.db.session import Database
from app.ending import Ending
from app.errors import NotReady
from app.job_process import JobProcess
from app.memory import memory_of
from app.services.recipes import recipes
from app.services.run_kinds import RUN_KINDS
from app.services.runs import jobs, webhook_calls, webhooks, workers
from app.services.runs.kinds import RunKind
from app.settings import Settings

WARM_QUEUE = "interactive"
"""The queue whose jobs share a process that stays."""
WARM_SECONDS = 15 * 60
"""A warm process that has had nothing to do for so long gives its memory back."""
BEAT_SECONDS = 3.0
"""Between two signs of life, and two searches for jobs without a worker and recipes that nobody advanced."""
LONGEST_PAUSE_SECONDS = 60.0
"""What fails again and again is tried again after pauses that double up to this."""
LOST_SECONDS = 10.0
"""A worker that is silent for so long has lost its jobs."""
FETCH_POLL_SECONDS = 1.0
CANCEL_POLL_SECONDS = 0.5
"""How soon new jobs and cancellations are seen whose notification was lost: procrastinate hears none any more
after the data base was restarted under it."""
REST_SECONDS = 2.0
"""Before the queue is tried again that could not be reached."""

log = structlog.get_logger(__name__)


class Worker:
    """One worker on one data base."""

    def __init__(
        self, settings: Settings, database: Database, kinds: Mapping[str, RunKind] = RUN_KINDS
    ) -> None:
        self._settings = settings
        self._database = database
        self._kinds = kinds
        self.name = settings.worker_name or f"{socket.gethostname()}-{os.getpid()}"
        self._warm = JobProcess()
        self._warm_lock = threading.Lock()
        self._warm_used_at = time.monotonic()
        self._queue_id: int | None = None
        self._memory_bytes = memory_of(settings.device)

    def run(self, ending: Ending | None = None) -> None:
        """Serve the queues until SIGTERM or SIGINT; then hand back what is running."""
        if ending is None:
            ending = Ending()
            ending.listen()
        asyncio.run(self._serve(ending))

    def run_once(self) -> bool:
        """Do the next job, in this thread; returns whether there was one. For tests and debugging."""
        with self._database.session() as session:
            if self._queue_id is None:
                self._queue_id = job_queue.register_worker(session)
            row = job_queue.fetch(session, self._settings.worker_queues, self._queue_id)
        if row is None:
            return False
        self._work(row, lambda: None)
        with self._database.session() as session:
            job_queue.discard(session, row.id)
        return True

    def close(self) -> None:
        """End the warm process and leave the queue and the list of workers."""
        with self._warm_lock:
            self._warm.terminate()
        with contextlib.suppress(NotReady), self._database.session() as session:
            workers.leave(session, self.name)
            if self._queue_id is not None:
                job_queue.unregister_worker(session, self._queue_id)
        self._queue_id = None

    # ------------------------------------------------------------------------------------------ one job

    def _work(self, row: QueueRow, should_stop: Callable[[], Stop | None]) -> None:
        """Claim the job that the row stands for, and do it."""
        claim = patiently(self._database, lambda session: jobs.claim(session, row.job_id, self.name, row.id))
        if claim is None:
            return
        with (
            structlog.contextvars.bound_contextvars(
                run_id=claim.run_id, job_id=claim.job_id, attempt=claim.attempt
            ),
            self._process_for(row) as process,
        ):
            log.info("job_started", kind=claim.kind)
            Attempt(
                self._database,
                self._kinds,
                claim,
                process,
                self._settings.device,
                should_stop,
                lambda session, run_id: recipes.after_run(session, self._settings, run_id),
            ).run()

    @contextlib.contextmanager
    def _process_for(self, row: QueueRow) -> Iterator[JobProcess]:
        """The warm process for interactive jobs, a fresh one for all others."""
        if row.queue != WARM_QUEUE:
            process = JobProcess()
            try:
                yield process
            finally:
                process.terminate()
            return
        with self._warm_lock:
            try:
                yield self._warm
            finally:
                self._warm_used_at = time.monotonic()

    # -------------------------------------------------------------------------------------- all the time

    async def _serve(self, ending: Ending) -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()

        def ask() -> None:
            loop.call_soon_threadsafe(stopping.set)

        ending.ask = ask
        log.info("worker_started", name=self.name, queues=list(self._settings.worker_queues))
        # Each by itself, so that what fails in one keeps no other from going on.
        steps: dict[str, Callable[[], Awaitable[object]]] = {
            "live": self._in_thread(self._say_alive),
            "recover": self._in_thread(self._recover_jobs),
            "advance": self._in_thread(self._advance_recipes),
            "cool": self._in_thread(self._let_go),
            # Others' servers may be slow.
            "deliver": self._deliver_all,
        }
        tasks: list[asyncio.Task[None]] = [
            asyncio.create_task(for_ever(name, step), name=name) for name, step in steps.items()
        ]
        tasks += [
            asyncio.create_task(self._serve_queue(queue), name=f"queue {queue}")
            for queue in self._settings.worker_queues
        ]
        stop = asyncio.create_task(stopping.wait(), name="stop")
        done, _ = await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in [stop, *tasks]:
            task.cancel()
        await asyncio.gather(stop, *tasks, return_exceptions=True)
        await asyncio.to_thread(self.close)
        log.info("worker_stopped", name=self.name)
        for task in done - {stop}:
            task.result()  # None of these ends by itself: what it raises is a bug, and is shown as one.

    @staticmethod
    def _in_thread(step: Callable[[], None]) -> Callable[[], Awaitable[object]]:
        return lambda: asyncio.to_thread(step)

    async def _deliver_all(self) -> None:
        """Report runs that ended to webhooks, until none is due."""
        while await self.deliver_once():
            pass

    async def deliver_once(self) -> bool:
        """Make the deliveries that are due, one a webhook; returns whether there was any."""
        due = await asyncio.to_thread(self._take_due)
        for called in await webhook_calls.call_all(due, self._settings.webhook_hosts):
            await asyncio.to_thread(self._note, called)
        return bool(due)

    def _take_due(self) -> list[webhooks.Outgoing]:
        with self._database.session() as session:
            webhooks.forget(session)
            return webhooks.take_due(session, self._settings.public_url)

    def _note(self, called: webhook_calls.Called) -> None:
        outgoing = called.outgoing
        with self._database.session() as session:
            webhooks.settle(session, outgoing.delivery_id, called.failure, is_final=called.is_final)
        if called.failure is not None:
            log.warning("webhook_failed", delivery_id=outgoing.delivery_id, reason=called.failure)

    def _say_alive(self) -> None:
        with self._database.session() as session:
            workers.beat(
                session,
                name=self.name,
                host=socket.gethostname(),
                pid=os.getpid(),
                version=version("rewardscope"),
                device=self._settings.device,
                queues=self._settings.worker_queues,
                memory_bytes=self._memory_bytes,
            )
            workers.forget(session)

    def _recover_jobs(self) -> None:
        with self._database.session() as session:
            for job_id in jobs.recover(session, LOST_SECONDS):
                log.warning("job_recovered", job_id=job_id)

    def _advance_recipes(self) -> None:
        with self._database.session() as session:
            for recipe_id in recipes.advance_stuck(session, self._settings):
                log.warning("recipe_advanced", recipe_id=recipe_id)

    def _let_go(self) -> None:
        """End a warm process that has been idle for long: its models take memory."""
        if time.monotonic() - self._warm_used_at > WARM_SECONDS and self._warm_lock.acquire(blocking=False):
            try:
                self._warm.terminate()
            finally:
                self._warm_lock.release()

    async def _serve_queue(self, queue: str) -> None:
        """Take jobs of one queue, one at a time; start over whenever the connection breaks."""
        while True:
            app = self._queue_app()
            try:
                async with app.open_async():
                    await app.run_worker_async(
                        queues=[queue],
                        name=self.name,
                        concurrency=1,
                        install_signal_handlers=False,
                        delete_jobs="always",
                        fetch_job_polling_interval=FETCH_POLL_SECONDS,
                        abort_job_polling_interval=CANCEL_POLL_SECONDS,
                        update_heartbeat_interval=BEAT_SECONDS,
                        shutdown_graceful_timeout=0,
                    )
                log.warning("queue_away", queue=queue, reason="the connection to the data base was lost")
            except Exception as error:
                log.warning("queue_away", queue=queue, reason=repr(error))
            await asyncio.sleep(REST_SECONDS)

    def _queue_app(self) -> procrastinate.App:
        app = job_queue.app(self._database.url)

        @app.task(name=job_queue.TASK, pass_context=True)
        def run_job(context: procrastinate.JobContext, job_id: int) -> None:
            """Runs in a thread of its own, so that signs of life go on meanwhile."""
            assert context.job.id is not None, "a job that was fetched has an id"
            self._work(QueueRow(context.job.id, job_id, context.job.queue), lambda: _why(context))

        return app


async def for_ever(name: str, step: Callable[[], Awaitable[object]], pause: float = BEAT_SECONDS) -> None:
    """Do `step` again and again, `pause` seconds apart; whatever it raises is logged and lived through, with
    growing pauses."""
    failures = 0
    while True:
        try:
            await step()
            failures = 0
        except NotReady as error:
            log.warning("database_away", reason=error.detail)
        except Exception:
            failures += 1
            log.exception("step_failed", step=name, failures=failures)
        await asyncio.sleep(min(pause * 2 ** min(failures, 10), LONGEST_PAUSE_SECONDS))


def _why(context: procrastinate.JobContext) -> Stop | None:
    """Why a job of the queue shall stop; None when it may go on."""
    reason = context.abort_reason()
    if reason is None:
        return None
    return Stop.cancel if reason is AbortReason.USER_REQUEST else Stop.hand_back
