"""The web server as `serve` runs it: uvicorn, which leaves signals to us and tells requests of the end."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

GRACE_SECONDS = 3
"""How long requests may go on after the server was asked to stop."""


class WebServer(uvicorn.Server):
    """Serves until `ask_to_stop`, in the main thread."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._app = app

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """None: a second SIGTERM would mean nothing to uvicorn."""
        yield

    def ask_to_stop(self) -> None:
        """Take no more requests, answer those that still send, and return when the others are answered or
        their time is over. From a signal handler: the server's own loop looks ten times a second."""
        self._app.state.stopping.set()
        self.should_exit = True
