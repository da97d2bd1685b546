"""Addresses to which ended runs are reported: who they are, what is due to them, and what each try came to.

A delivery is written in the transaction in which its run ends, so that none is lost. It is sent later,
outside of any transaction, and tried again with growing pauses until it arrives or its last attempt has
failed. Requests are signed as the Standard Webhooks say (headers `webhook-id`, `webhook-timestamp` and
`webhook-signature`), so that their libraries can check them.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
from pydantic import Field, field_validator
from sqlalchemy import delete, func, insert, literal, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session, joinedload

from app.db.base import storable
from app.db.queue import only_one
from app.db.tables import Run, Webhook, WebhookDelivery
from app.errors import Conflict, NotFound
from app.services.runs import webhook_places
from app.services.runs.kinds import RUN_KINDS
from engine.fields import StrictModel

End = Literal["succeeded", "failed", "crashed", "cancelled"]
ENDS: tuple[End, ...] = ("succeeded", "failed", "crashed", "cancelled")
PAUSES = tuple(
    timedelta(seconds=seconds) for seconds in (10, 60, 5 * 60, 30 * 60, 2 * 3600, 8 * 3600, 24 * 3600)
)
"""Before the second attempt, the third, and so on; after the last one the delivery is given up."""
MAX_ATTEMPTS = len(PAUSES) + 1
LEASE = timedelta(seconds=60)
"""A delivery that was taken and never settled, because its worker died, is due again after this."""
KEPT = timedelta(days=14)
"""How long settled deliveries are kept."""
SECRET_PREFIX = "whsec_"  # noqa: S105 - what secrets begin with
MAX_WEBHOOKS = 50
MAX_FAILURE_CHARACTERS = 500
"""A longer reason why an attempt failed is cut."""


class WebhookRequest(StrictModel):
    """The body of `POST /api/v1/webhooks`."""

    url: str = Field(min_length=1, max_length=2000, title="URL")
    """Where to POST; http or https. Redirects are not followed."""
    secret: str | None = Field(None, min_length=8, max_length=500, title="Secret")
    """Signs what is sent; `whsec_` before base64, or any text. It is never shown again."""
    statuses: list[End] = Field(
        default=["succeeded", "failed", "crashed"], min_length=1, title="Reported endings"
    )
    """Which ends of runs are reported."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        return checked_url(url)

    @field_validator("secret")
    @classmethod
    def _is_a_secret(cls, secret: str | None) -> str | None:
        if secret is not None and secret.startswith(SECRET_PREFIX):
            key_of(secret)
        return secret

    @field_validator("statuses")
    @classmethod
    def _once_each(cls, statuses: list[End]) -> list[End]:
        return [status for status in ENDS if status in statuses]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request to be sent. `headers` are those of the signature."""

    delivery_id: int
    url: str
    body: bytes
    secret: str | None
    attempt: int

    @property
    def message_id(self) -> str:
        """The same for every attempt, so that a receiver knows one that came twice."""
        return f"delivery-{self.delivery_id}"


@dataclass(frozen=True, slots=True)
class WebhookState:
    """A webhook, with what became of its deliveries."""

    webhook: Webhook
    last: WebhookDelivery | None
    """The delivery that was touched last."""
    waiting: int
    """Deliveries that are still to be made."""


def checked_url(url: str) -> str:
    """The address, if it can be a webhook's. Raises ValueError with a sentence."""
    url = url.strip()
    if not url.isprintable() or " " in url:
        raise ValueError("A webhook's address has no spaces and no control characters.")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        _ = httpx.URL(url).host  # Reads international names, as sending will.
    except (ValueError, httpx.InvalidURL):
        raise ValueError("This is no address; write it as https://example.org/hook.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("A webhook's address begins with http:// or https:// and names a host.")
    if parts.username is not None or parts.password is not None:
        raise ValueError("Leave user and password out of the address; a secret signs what is sent.")
    return url


def key_of(secret: str) -> bytes:
    """The bytes that a secret signs with. Raises ValueError where `whsec_` is not followed by base64."""
    if not secret.startswith(SECRET_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("After `whsec_` a secret is base64; correct it, or choose another text.") from None


def register(session: Session, request: WebhookRequest, hosts: Sequence[str]) -> Webhook:
    """A new webhook. Raises Conflict where the address has one, or there are too many, and ForbiddenPlace
    where `hosts`, those of the settings, do not let it through."""
    with contextlib.suppress(webhook_places.UnknownHost):  # It may come to be known; each delivery looks.
        webhook_places.addresses_of(request.url, hosts)
    if session.scalar(select(Webhook.id).where(Webhook.url == request.url)) is not None:
        raise Conflict("There is a webhook for this address; remove it before you add it anew.")
    if session.scalar(select(func.count(Webhook.id))) >= MAX_WEBHOOKS:  # type: ignore[operator] # a count
        raise Conflict(f"There are {MAX_WEBHOOKS} webhooks already; remove one first.")
    webhook = Webhook(url=request.url, secret=request.secret, statuses=list(request.statuses))
    session.add(webhook)
    session.flush()
    session.refresh(webhook)
    return webhook


def list_webhooks(session: Session) -> list[WebhookState]:
    """Every webhook, oldest first."""
    counting = (
        select(WebhookDelivery.webhook_id, func.count())
        .where(WebhookDelivery.due_at.is_not(None))
        .group_by(WebhookDelivery.webhook_id)
    )
    waiting: dict[int, int] = dict(session.execute(counting).all())
    last = {
        one.webhook_id: one
        for one in session.scalars(
            select(WebhookDelivery)
            .where(WebhookDelivery.attempts > 0)
            .ext(distinct_on(WebhookDelivery.webhook_id))
            .order_by(WebhookDelivery.webhook_id, WebhookDelivery.id.desc())
        )
    }
    return [
        WebhookState(webhook, last.get(webhook.id), waiting.get(webhook.id, 0))
        for webhook in session.scalars(select(Webhook).order_by(Webhook.id))
    ]


def get_webhook(session: Session, webhook_id: int) -> Webhook:
    """The webhook. Raises NotFound."""
    webhook = session.get(Webhook, webhook_id)
    if webhook is None:
        raise NotFound(f"There is no webhook {webhook_id}.")
    return webhook


def delete_webhook(session: Session, webhook_id: int) -> None:
    """Remove a webhook; what was still due to it is not sent. Raises NotFound."""
    get_webhook(session, webhook_id)
    session.execute(delete(Webhook).where(Webhook.id == webhook_id))


def list_deliveries(session: Session, webhook_id: int, limit: int = 50) -> Sequence[WebhookDelivery]:
    """The newest deliveries of a webhook. Raises NotFound."""
    get_webhook(session, webhook_id)
    query = select(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id)
    return session.scalars(query.order_by(WebhookDelivery.id.desc()).limit(limit)).all()


def run_ended(session: Session, run_id: int, status: str) -> None:
    """Write a delivery for every webhook that wants to know of this end, in the caller's transaction."""
    unreported = [kind.name for kind in RUN_KINDS.values() if not kind.is_reported]
    wanted = (
        select(Webhook.id, Run.id, literal(str(status)))
        .join(Run, Run.id == run_id)
        .where(Webhook.statuses.contains([str(status)]), Run.kind.not_in(unreported))
    )
    columns = [WebhookDelivery.webhook_id, WebhookDelivery.run_id, WebhookDelivery.status]
    session.execute(insert(WebhookDelivery).from_select(columns, wanted, include_defaults=False))


def take_due(session: Session, public_url: str | None) -> list[Outgoing]:
    """The oldest delivery that is due of each webhook, as requests; nobody else gets them meanwhile.

    Commit before sending. One a webhook, so that an address that does not answer keeps nobody else waiting.
    """
    if not only_one(session, "deliver webhooks"):
        return []
    query = (
        select(WebhookDelivery, Webhook)
        .join(Webhook, Webhook.id == WebhookDelivery.webhook_id)
        .where(WebhookDelivery.due_at <= func.now())
        .ext(distinct_on(WebhookDelivery.webhook_id))
        .order_by(WebhookDelivery.webhook_id, WebhookDelivery.due_at, WebhookDelivery.id)
    )
    taken = []
    for delivery, webhook in session.execute(query).all():
        run = session.scalar(select(Run).where(Run.id == delivery.run_id).options(joinedload(Run.job)))
        if run is None:
            continue
        if delivery.attempts >= MAX_ATTEMPTS:
            delivery.due_at = None
            delivery.error = f"The workers ended in the middle of {delivery.attempts} attempts."
            continue
        delivery.attempts += 1
        delivery.due_at = func.now() + LEASE
        body = json.dumps(message(run, delivery.status, public_url), ensure_ascii=False).encode()
        taken.append(Outgoing(delivery.id, webhook.url, body, webhook.secret, delivery.attempts))
    session.flush()
    return taken


def settle(session: Session, delivery_id: int, failure: str | None, *, is_final: bool = False) -> None:
    """Note what an attempt came to: delivered, or why not. A final failure is not tried again."""
    delivery = session.get(WebhookDelivery, delivery_id, with_for_update=True)
    if delivery is None:
        return  # Its webhook or its run was removed meanwhile.
    delivery.error = None if failure is None else storable(failure)[:MAX_FAILURE_CHARACTERS]
    if failure is None:
        delivery.delivered_at = func.now()
        delivery.due_at = None
    elif is_final or delivery.attempts >= MAX_ATTEMPTS:
        delivery.due_at = None
    else:
        delivery.due_at = func.now() + PAUSES[delivery.attempts - 1]
    session.flush()


def forget(session: Session) -> None:
    """Delete deliveries that were settled long ago."""
    session.execute(
        delete(WebhookDelivery).where(
            WebhookDelivery.due_at.is_(None), WebhookDelivery.created_at < func.now() - KEPT
        )
    )


def message(run: Run, status: str, public_url: str | None) -> dict[str, Any]:
    """What is sent of a run that ended, whose job is loaded."""
    job = run.job
    error = job.error if status == job.status else None
    path = f"/runs/{run.id}"
    return {
        "type": f"run.{status}",
        "timestamp": _written(job.finished_at),
        "data": {
            "run_id": run.id,
            "name": run.name,
            "kind": run.kind,
            "status": status,
            "dataset_id": run.dataset_id,
            "recipe_id": run.recipe_id,
            "attempt": job.attempt,
            "started_at": _written(job.started_at),
            "finished_at": _written(job.finished_at),
            "error": {"code": error["code"], "detail": error["detail"]} if error else None,
            "path": path,
            "url": public_url.rstrip("/") + path if public_url else None,
        },
    }


def sample_message() -> dict[str, Any]:
    """What a test sends: the same fields as of a run, and a type of its own."""
    return {
        "type": "test",
        "timestamp": None,
        "data": {"sentence": "RewardScope can reach this address. Ends of runs are reported here."},
    }


def signed_headers(message_id: str, timestamp: int, body: bytes, secret: str | None) -> Mapping[str, str]:
    """The headers of a request, as the Standard Webhooks name them."""
    headers = {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
    }
    if secret is not None:
        signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
        digest = hmac.new(key_of(secret), signed, hashlib.sha256).digest()
        headers["webhook-signature"] = "v1," + base64.b64encode(digest).decode()
    return headers


def _written(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
