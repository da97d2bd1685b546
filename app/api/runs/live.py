"""Notice of changed runs, spread from one connection to the data base to all streams of this process."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import structlog
from fastapi import Depends, Request

from app.db.notifications import listen
from app.errors import NotReady

SECONDS_BETWEEN_TRIES = 1.0
SECONDS_A_WAIT = 60.0

log = structlog.get_logger(__name__)


class Changes:
    """The changes that one stream waits for."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def notify(self) -> None:
        """The run changed."""
        self._changed.set()

    async def wait(self, seconds: float) -> None:
        """Returns once the run changed since the last wait, or the time is over."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)
        self._changed.clear()


class Live:
    """Listens while anybody wants to hear; lives on the server's event loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._streams: defaultdict[int, set[Changes]] = defaultdict(set)
        self._listening: asyncio.Task[None] | None = None

    @contextmanager
    def changes_of(self, run_id: int) -> Iterator[Changes]:
        """The changes of one run."""
        changes = Changes()
        self._streams[run_id].add(changes)
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        try:
            yield changes
        finally:
            self._streams[run_id].discard(changes)
            if not self._streams[run_id]:
                del self._streams[run_id]
            if not self._streams:
                self._stop()

    def _stop(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None

    async def _listen(self) -> None:
        while True:
            try:
                async with listen(self._url) as listener:
                    # Whatever changed before this moment may not have been heard.
                    self._spread(set(self._streams))
                    while True:
                        self._spread(await listener.heard(SECONDS_A_WAIT))
            except NotReady as error:
                log.warning("listener_lost", reason=error.detail)
            except Exception:
                log.exception("listener_failed")
            await asyncio.sleep(SECONDS_BETWEEN_TRIES)

    def _spread(self, runs: set[int]) -> None:
        for run_id in runs & self._streams.keys():
            for changes in self._streams[run_id]:
                changes.notify()


def get_live(request: Request) -> Live:
    """What spreads the changes of this application's data base."""
    live: Live = request.app.state.live
    return live


LiveDep = Annotated[Live, Depends(get_live)]
