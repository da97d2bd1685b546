"""A real server on a free port and a real browser, which notes everything that must not happen: requests to
other servers, violations of the content security policy, errors on the console."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import uvicorn

from app.db.session import Database
from app.main import create_app
from app.settings import Settings

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)


@dataclass
class Server:
    """Where the server is, and the address that signs in."""

    url: str
    token: str

    @property
    def token_url(self) -> str:
        return f"{self.url}/?token={self.token}"


@dataclass
class Watched:
    """A browser's page, and what it did that no page of ours may do."""

    page: object
    faults: list[str] = field(default_factory=list)


@pytest.fixture
def server(settings: Settings, database: Database) -> Iterator[Server]:
    """The application behind uvicorn, as `rewardscope serve` runs it."""
    config = uvicorn.Config(create_app(settings, database), host="127.0.0.1", port=0, log_level="error")
    config.timeout_graceful_shutdown = 2
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not running.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < deadline, "the server takes too long to start"
        time.sleep(0.02)
    port = running.servers[0].sockets[0].getsockname()[1]
    assert settings.token is not None
    yield Server(f"http://127.0.0.1:{port}", settings.token.get_secret_value())
    running.should_exit = True
    thread.join(timeout=20)


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """A headless Chromium: the one on the PATH, else Playwright's own."""
    playwright_module = pytest.importorskip("playwright.sync_api")
    playwright_module.expect.set_options(timeout=15_000)
    path = next((found for name in CHROMIUM_NAMES if (found := shutil.which(name))), None)
    with playwright_module.sync_playwright() as playwright:
        if path is None and not os.path.exists(playwright.chromium.executable_path):  # noqa: PTH110
            sentence = "There is no Chromium: put one on the PATH, or run `playwright install chromium`."
            if os.environ.get("CI") == "true":
                pytest.fail(sentence)
            pytest.skip(sentence)
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def watched(chromium, server) -> Iterator[Watched]:
    """A fresh page in a fresh profile; the test fails at its end if the page did what it may not."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(15_000)
    watch = Watched(context.new_page())

    def see_request(request) -> None:
        if not request.url.startswith((server.url, "data:", "blob:")):
            watch.faults.append(f"asked for {request.url}")

    def see_console(message) -> None:
        if message.type in ("error", "warning"):
            watch.faults.append(f"console {message.type}: {message.text}")

    context.on("request", see_request)
    watch.page.on("console", see_console)
    watch.page.on("pageerror", lambda error: watch.faults.append(f"error: {error}"))
    yield watch
    context.close()
    assert watch.faults == []
