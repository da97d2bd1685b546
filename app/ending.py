"""How a process ends that runs until somebody ends it: in order at the first signal, at once at the second,
and in any case in time."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SECONDS = 9.0
"""From the first signal until the process ends, whatever still hangs in it."""


class Ending:
    """What signals do to this process, from `listen` on."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.ask: Callable[[], None] = self._unwind
        """Begins the end in order; by default an exception, so that everything is left on the way out."""
        self.at_last: list[Callable[[], None]] = []
        """What is done, quickly, before the process ends out of order."""
        self._seconds = seconds
        self._number: int | None = None

    def listen(self) -> None:
        """Take the signals over; in the main thread."""
        for number in SIGNALS:
            signal.signal(number, self._hear)

    @property
    def was_asked(self) -> bool:
        """Whether a signal came."""
        return self._number is not None

    def leave(self) -> None:
        """End the process, whose work is done: threads that still hang in requests hold nothing up."""
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(self._status)

    @property
    def _status(self) -> int:
        """As of a process that the signal ended; 0 for a Ctrl-C, which is how people end it."""
        return 0 if self._number in (None, signal.SIGINT) else 128 + (self._number or 0)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if self._number is not None:
            self._end_now()
        self._number = number
        timer = threading.Timer(self._seconds, self._end_now)
        timer.daemon = True
        timer.start()
        self.ask()

    def _unwind(self) -> None:
        raise SystemExit(self._status)

    def _end_now(self) -> None:
        for step in self.at_last:
            with contextlib.suppress(Exception):
                step()
        os._exit(self._status)
