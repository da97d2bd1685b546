"""The settings: what they tell, what they never tell, and the webhooks that are kept there."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from app.services import server_facts
from app.services.runs import webhooks, workers
from app.settings import Settings
from tests.conftest import TOKEN


@pytest.fixture
def hooked() -> Iterator[str]:
    """The address of a server that takes every POST at /good, and refuses others."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(204 if self.path == "/good" else 500)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def told(client, path="/settings") -> str:
    """The page as a person reads it."""
    answer = client.get(path)
    assert answer.status_code == 200
    return html.unescape(answer.text)


def test_the_settings_tell_all_but_secrets(browser_client, settings):
    page = told(browser_client)
    assert TOKEN not in page
    assert f"It ends in <code>{TOKEN[-4:]}</code>" in page
    assert "set, not shown" in page
    assert "PostgreSQL 1" in page
    assert str(settings.data_dir) in page
    for name in Settings.model_fields:
        assert f"REWARDSCOPE_{name.upper()}" in page
    assert all(one.description for one in server_facts.settings_in_force(settings))


def test_the_password_of_the_data_base_is_never_told(settings, database):
    url = "postgresql://somebody:verysecret@db.example:5433/rewards"
    secret = settings.model_copy(update={"database_url": url})
    with database.session() as session:
        facts = server_facts.read_facts(session, secret)
    assert facts.database == "db.example:5433/rewards"
    shown = " ".join(one.value for one in server_facts.settings_in_force(secret))
    assert "verysecret" not in shown
    assert "db.example" in shown


def test_without_workers_the_page_says_how_to_start_one(browser_client, database):
    assert "No worker is there" in told(browser_client)
    with database.session() as session:
        workers.beat(session, name="w-1", host="h", pid=1, version="1", device="cpu", queues=["default"])
    page = told(browser_client)
    assert "w-1" in page
    assert "No worker is there" not in page


def test_a_webhook_is_added_tested_and_removed(browser_client, database, hooked):
    for path in ("good", "bad"):
        form = {"url": f"{hooked}/{path}", "secret": "a secret text", "statuses": ["failed", "crashed"]}
        answer = browser_client.post("/settings/webhooks", data=form)
        assert answer.status_code == 200
    page = told(browser_client)
    assert f"{hooked}/good" in page
    assert "failed, crashed" in page
    assert "a secret text" not in page
    good, bad = re.findall(r'action="(/settings/webhooks/\d+)/test"', page)
    assert "arrived" in browser_client.post(f"{good}/test").text
    assert "It answered 500." in browser_client.post(f"{bad}/test").text
    browser_client.post(f"{good}/delete")
    with database.session() as session:
        assert [state.webhook.url for state in webhooks.list_webhooks(session)] == [f"{hooked}/bad"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"url": "ftp://example.org"}, "begins with http:// or https://"),
        ({"url": ""}, "URL cannot be used"),
        ({"secret": "short"}, "Secret cannot be used"),
        ({"statuses": []}, "Reported endings cannot be used"),
    ],
)
def test_what_cannot_be_a_webhook_is_told_and_what_was_typed_stays(browser_client, change, sentence):
    form = {"url": "https://example.org/hook", "statuses": ["failed"]} | change
    answer = browser_client.post("/settings/webhooks", data=form)
    assert answer.status_code == 422
    page = html.unescape(answer.text)
    assert sentence in re.search(r"<p data-detail>([^<]*)", page)[1]
    assert f'value="{form["url"]}"' in page
    assert "short" not in re.search(r'<form class="form add".*?</form>', page, re.DOTALL)[0]


def test_a_webhook_that_is_not_there_cannot_be_tested(browser_client):
    assert browser_client.post("/settings/webhooks/999/test").status_code == 404
    assert browser_client.post("/settings/webhooks/999/delete").status_code == 404
