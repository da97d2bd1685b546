"""Webhooks: deliveries are written with the end of a run, sent to a real server, and tried again."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.db.session import Database
from app.db.tables import JobStatus, Run, Webhook, WebhookDelivery
from app.errors import AppError
from app.services.runs import jobs, webhook_calls, webhook_places, webhooks
from app.services.runs.webhooks import WebhookRequest
from app.settings import Settings
from app.worker import Worker, for_ever

HERE = ("*", "127.0.0.1")
"""Where webhooks may lead in these tests: the receiver is on this machine."""


@dataclass
class Receiver:
    """A real server that keeps what it is sent and answers as it is told."""

    url: str
    answers: list[int] = field(default_factory=list)
    """Statuses of the next answers; 200 after them. 0 answers nothing."""
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.received.append(({k.lower(): v for k, v in self.headers.items()}, body))
            status = found.answers.pop(0) if found.answers else 200
            if status == 0:
                found.released.wait(20)
                return
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", found.url + "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Receiver(f"http://127.0.0.1:{server.server_port}/hook")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield found
    found.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def register(database: Database, url: str, **fields: object) -> int:
    with database.session() as session:
        request = WebhookRequest.model_validate({"url": url, **fields})
        return webhooks.register(session, request, HERE).id


def end(database: Database, status: JobStatus = JobStatus.succeeded, kind: str = "scoring") -> int:
    """A run that ended so."""
    with database.session() as session:
        run = jobs.submit(session, kind=kind, name="a run", request={})
        claim = jobs.claim(session, run.job.id, "worker")
        assert claim is not None
        if status == JobStatus.succeeded:
            jobs.finish(session, claim.job_id, claim.attempt, {})
        else:
            jobs.fail(session, claim.job_id, claim.attempt, status, {"code": "x", "detail": "It is broken."})
        return run.id


def deliveries(database: Database) -> list[WebhookDelivery]:
    with database.session() as session:
        return list(session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id)))


def make_due(database: Database) -> None:
    with database.session() as session:
        session.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.due_at.is_not(None))
            .values(due_at=WebhookDelivery.created_at)
        )


def awaited(make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """What comes of it, in a thread of its own: a browser of other tests may keep a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(make())).result()


def tell(worker: Worker) -> bool:
    return bool(awaited(worker.deliver_once))


def test_a_run_that_ends_is_told_once_and_signed(
    database: Database, worker: Worker, receiver: Receiver
) -> None:
    secret = "whsec_" + base64.b64encode(b"0123456789abcdef").decode()
    register(database, receiver.url, secret=secret)
    run_id = end(database)

    assert tell(worker)
    assert not tell(worker)

    ((headers, body),) = receiver.received
    told = json.loads(body)
    assert told["type"] == "run.succeeded"
    assert told["data"] | {"run_id": run_id, "status": "succeeded", "error": None} == told["data"]
    assert told["data"]["path"] == f"/runs/{run_id}"
    assert headers["content-type"] == "application/json"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(b"0123456789abcdef", signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    (delivery,) = deliveries(database)
    assert delivery.delivered_at is not None
    assert (delivery.due_at, delivery.error, delivery.attempts) == (None, None, 1)


def test_only_wanted_ends_are_told_and_none_of_texts_that_somebody_waits_for(
    database: Database, receiver: Receiver
) -> None:
    register(database, receiver.url, statuses=["failed", "crashed"])

    end(database, JobStatus.succeeded)
    end(database, JobStatus.failed, kind="playground")
    failed = end(database, JobStatus.failed)

    assert [(one.run_id, one.status) for one in deliveries(database)] == [(failed, "failed")]


def test_a_run_whose_end_is_not_committed_is_not_told(database: Database, receiver: Receiver) -> None:
    register(database, receiver.url, statuses=["cancelled"])

    def cancel_and_fail() -> None:
        with database.session() as session:
            run = jobs.submit(session, kind="scoring", name="a run", request={})
            jobs.cancel(session, run.id)
            raise RuntimeError("the caller fails after it")

    with pytest.raises(RuntimeError):
        cancel_and_fail()

    assert deliveries(database) == []


def test_what_fails_is_tried_again_with_the_same_name_until_it_arrives(
    database: Database, worker: Worker, receiver: Receiver
) -> None:
    register(database, receiver.url)
    end(database, JobStatus.failed)
    receiver.answers = [503, 302]

    for reason in ("It answered 503.", "It answered 302, and redirects are not followed."):
        assert tell(worker)
        assert not tell(worker), "the pause is not over"
        (delivery,) = deliveries(database)
        assert delivery.error == reason
        make_due(database)
    assert tell(worker)

    assert len(receiver.received) == 3, "no redirect was followed"
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 1
    assert json.loads(receiver.received[-1][1])["data"]["error"] == {"code": "x", "detail": "It is broken."}
    (delivery,) = deliveries(database)
    assert (delivery.attempts, delivery.due_at, delivery.error) == (3, None, None)


def test_pauses_grow_and_attempts_have_an_end(database: Database, worker: Worker, receiver: Receiver) -> None:
    register(database, receiver.url)
    end(database)
    receiver.answers = [500] * 20
    pauses = []

    for _ in range(webhooks.MAX_ATTEMPTS):
        make_due(database)
        assert tell(worker)
        (delivery,) = deliveries(database)
        if delivery.due_at is not None:
            pauses.append(delivery.due_at - delivery.created_at)
    make_due(database)

    assert not tell(worker)
    assert pauses == sorted(pauses)
    assert len(receiver.received) == webhooks.MAX_ATTEMPTS


def test_an_address_that_wants_nothing_any_more_is_left_alone(
    database: Database, worker: Worker, receiver: Receiver
) -> None:
    register(database, receiver.url)
    end(database)
    receiver.answers = [410]

    assert tell(worker)

    (delivery,) = deliveries(database)
    assert delivery.due_at is None
    assert delivery.delivered_at is None


def test_an_address_that_is_silent_or_away_fails_in_a_sentence(receiver: Receiver) -> None:
    receiver.answers = [0]
    silent = webhooks.Outgoing(1, receiver.url, b"{}", None, 1)
    away = webhooks.Outgoing(2, "http://127.0.0.1:9/hook", b"{}", None, 1)

    called = awaited(lambda: webhook_calls.call_all([silent, away], HERE, seconds=0.3))

    assert called[0].failure == "It did not answer within 0.3 seconds."
    assert called[1].failure is not None
    assert called[1].failure.startswith("It cannot be reached")


def test_two_workers_never_send_the_same_and_one_that_dies_loses_nothing(
    database: Database, receiver: Receiver
) -> None:
    register(database, receiver.url)
    end(database)

    with database.session() as one, database.session() as other:
        first = webhooks.take_due(one, None)
        assert webhooks.take_due(other, None) == []
    with database.session() as session:
        assert webhooks.take_due(session, None) == [], "it is taken, and the lease holds"
    make_due(database)  # The first worker died, and the lease is over.
    with database.session() as session:
        again = webhooks.take_due(session, "https://rewards.example/")

    assert [one.message_id for one in first] == [one.message_id for one in again]
    assert json.loads(again[0].body)["data"]["url"].startswith("https://rewards.example/runs/")


def test_a_silent_address_keeps_no_other_waiting(
    database: Database, worker: Worker, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(database, "http://127.0.0.1:9/nobody")
    register(database, receiver.url)
    for _ in range(3):
        end(database)

    while tell(worker):
        pass

    assert len(receiver.received) == 3


def test_a_webhook_that_is_removed_takes_what_was_due_along(database: Database, worker: Worker) -> None:
    webhook_id = register(database, "http://127.0.0.1:9/nobody")
    end(database)

    with database.session() as session:
        webhooks.delete_webhook(session, webhook_id)

    assert deliveries(database) == []
    assert not tell(worker)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/x",
        "file:///etc/passwd",
        "example.org",
        "http://",
        "http://user:pass@example.org",
        "http://[::1",
        "http://exa mple.org",
        "javascript:alert(1)",
        "http://xn--a.invalid/",
    ],
)
def test_only_addresses_of_the_web_can_be_webhooks(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        WebhookRequest(url=url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "localhost",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fc00::1]",
        "[ff02::1]",
    ],
)
def test_no_webhook_leads_into_this_machine_or_its_network_unless_the_settings_allow_it(
    database: Database, host: str
) -> None:
    url = f"http://{host}:9/hook"
    outgoing = webhooks.Outgoing(1, url, b"{}", None, 1)

    with database.session() as session, pytest.raises(AppError, match="REWARDSCOPE_WEBHOOK_HOSTS"):
        webhooks.register(session, WebhookRequest(url=url), ["*"])
    (called,) = awaited(lambda: webhook_calls.call_all([outgoing], ["*"], seconds=1))

    assert called.failure is not None
    assert "webhooks lead to public addresses" in called.failure
    assert webhook_places.addresses_of(url, ["*", host.strip("[]")])


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_hosts_of_the_internet_are_public(address: str) -> None:
    assert webhook_places.is_public(ipaddress.ip_address(address))


def test_the_settings_name_hosts_by_name_end_of_name_address_and_network() -> None:
    def leads(url: str, *hosts: str) -> bool:
        try:
            return bool(webhook_places.addresses_of(url, hosts))
        except webhook_places.ForbiddenPlace:
            return False

    assert leads("http://10.1.2.3/x", "10.0.0.0/8")
    assert not leads("http://11.1.2.3/x", "10.0.0.0/8")
    assert not leads("http://8.8.8.8/x", "hooks.example.org")
    assert leads("http://8.8.8.8/x", "*", "hooks.example.org")
    assert leads("http://localhost/x", "localhost")
    assert leads("http://LOCALHOST./x", "localhost")
    for url in ("http://a.hooks.invalid/x", "http://evil-hooks.invalid/x", "http://hooks.invalid/x"):
        named = url.startswith("http://a.")
        with pytest.raises(webhook_places.UnknownHost if named else webhook_places.ForbiddenPlace):
            webhook_places.addresses_of(url, ["*.hooks.invalid"])


def test_a_name_is_looked_up_once_and_its_checked_address_is_what_is_connected_to(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(receiver.url.split(":")[2].split("/")[0])
    here = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    asked: list[object] = []

    def look_up(host: object, *rest: object, **more: object) -> list[Any]:
        if host in ("127.0.0.1", b"127.0.0.1"):  # What is an address already needs no name server.
            return here
        asked.append(host)
        return here

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    outgoing = webhooks.Outgoing(1, f"http://hooks.example:{port}/hook", b"{}", None, 1)
    (called,) = awaited(lambda: webhook_calls.call_all([outgoing], ["hooks.example"]))

    assert called.failure is None
    assert asked == ["hooks.example"]
    assert receiver.received[0][0]["host"] == f"hooks.example:{port}"


def test_an_address_that_cannot_be_called_at_all_fails_in_a_sentence_and_ends_no_worker(
    database: Database, settings: Settings, receiver: Receiver
) -> None:
    register(database, receiver.url)
    with database.session() as session:  # As it was stored before registration refused such names.
        session.add(Webhook(url="http://xn--a.invalid/", secret=None, statuses=["succeeded"]))
    end(database)
    worker = Worker(settings, database)

    async def serve() -> None:
        beats = asyncio.create_task(for_ever("deliver", worker.deliver_once, pause=0.02))
        while not all(one.error or one.delivered_at for one in deliveries(database)):
            await asyncio.sleep(0.02)
        end(database)
        while len(receiver.received) < 2:
            await asyncio.sleep(0.02)
        beats.cancel()

    awaited(lambda: asyncio.wait_for(serve(), 30))

    bad = next(one for one in deliveries(database) if one.error)
    assert bad.error == "No host of the name xn--a.invalid is known."
    assert bad.attempts == 1


def test_what_a_beat_raises_is_lived_through_with_growing_pauses() -> None:
    began: list[float] = []

    async def step() -> None:
        began.append(time.monotonic())
        raise UnicodeError("some data that nobody thought of")

    async def beat() -> None:
        await asyncio.wait_for(for_ever("deliver", step, pause=0.1), 2.5)

    with pytest.raises(TimeoutError):
        awaited(beat)

    pauses = [after - before for before, after in itertools.pairwise(began)]
    assert len(pauses) >= 3
    assert pauses[2] > 1.5 * pauses[0]


def test_a_delivery_in_whose_middle_every_worker_ends_is_given_up(database: Database) -> None:
    register(database, "http://127.0.0.1:9/nobody")
    end(database)

    taken = 0
    for _ in range(webhooks.MAX_ATTEMPTS + 3):
        make_due(database)
        with database.session() as session:
            taken += len(webhooks.take_due(session, None))

    (delivery,) = deliveries(database)
    assert taken == webhooks.MAX_ATTEMPTS
    assert delivery.due_at is None
    assert delivery.error == f"The workers ended in the middle of {webhooks.MAX_ATTEMPTS} attempts."


def test_settled_deliveries_are_forgotten_in_the_end(session: Session, database: Database) -> None:
    register(database, "http://127.0.0.1:9/nobody")
    end(database)
    run = session.scalars(select(Run)).one()
    session.execute(
        update(WebhookDelivery).values(created_at=run.created_at - 2 * webhooks.KEPT, due_at=None)
    )

    webhooks.forget(session)

    assert session.scalars(select(WebhookDelivery)).all() == []


def test_the_api_adds_lists_tests_and_removes(client, receiver: Receiver, settings: Settings) -> None:
    added = client.post("/api/v1/webhooks", json={"url": receiver.url, "secret": "a long secret"})
    assert added.status_code == 201
    webhook = added.json()
    assert (webhook["is_signed"], webhook["statuses"]) == (True, ["succeeded", "failed", "crashed"])
    assert "a long secret" not in added.text
    assert client.post("/api/v1/webhooks", json={"url": receiver.url}).status_code == 409
    assert client.post("/api/v1/webhooks", json={"url": "gopher://x"}).status_code == 422

    address = f"/api/v1/webhooks/{webhook['id']}"
    assert client.post(f"{address}/test").json() == {"delivered": True, "error": None}
    assert json.loads(receiver.received[0][1])["type"] == "test"
    receiver.answers = [500]
    assert client.post(f"{address}/test").json() == {"delivered": False, "error": "It answered 500."}
    assert client.get("/api/v1/webhooks").json()["data"] == [webhook]
    assert client.get(f"{address}/deliveries").json()["data"] == []

    assert client.delete(address).status_code == 204
    assert client.delete(address).status_code == 404
    assert client.post(f"{address}/test").status_code == 404
