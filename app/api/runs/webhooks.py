"""Webhooks: addresses that runs which ended are reported to."""

from __future__ import annotations

from datetime import datetime

from app.api.parts.common import Id, View, door
from app.api.parts.lists import Listing
from app.db.tables import Webhook
from app.dependencies import DatabaseDep, SessionDep, SettingsDep
from app.problems import responses
from app.services.runs import webhook_calls, webhooks
from app.services.runs.webhooks import WebhookRequest


class WebhookView(View):
    """A webhook. Its secret is never shown."""

    id: int
    url: str
    is_signed: bool
    statuses: list[str]
    created_at: datetime

    @classmethod
    def of(cls, webhook: Webhook) -> WebhookView:
        """The view of a stored webhook."""
        return cls(
            id=webhook.id,
            url=webhook.url,
            is_signed=webhook.secret is not None,
            statuses=webhook.statuses,
            created_at=webhook.created_at,
        )


class DeliveryView(View):
    """One end of a run that is reported to a webhook."""

    id: int
    run_id: int
    status: str
    """How the run ended."""
    attempts: int
    due_at: datetime | None
    """When it is tried next; null once it was delivered or given up."""
    delivered_at: datetime | None
    error: str | None
    """Why the last attempt failed."""
    created_at: datetime


class TestAnswer(View):
    """What came of a test."""

    __test__ = False  # pytest takes it for a class of tests.
    delivered: bool
    error: str | None


router = door("webhooks")


@router.get("")
def list_webhooks(session: SessionDep) -> Listing[WebhookView]:
    """Every webhook, oldest first."""
    found = [WebhookView.of(state.webhook) for state in webhooks.list_webhooks(session)]
    return Listing[WebhookView](data=found, next_cursor=None, total=len(found))


@router.post("", status_code=201, responses=responses(409))
def add_webhook(body: WebhookRequest, session: SessionDep, settings: SettingsDep) -> WebhookView:
    """Adds an address to which every run is reported, by POST, that ends from now on in one of `statuses`."""
    return WebhookView.of(webhooks.register(session, body, settings.webhook_hosts))


@router.delete("/{webhook_id}", status_code=204)
def delete_webhook(webhook_id: Id, session: SessionDep) -> None:
    """Removes a webhook; what was still due to it is not sent."""
    webhooks.delete_webhook(session, webhook_id)


@router.get("/{webhook_id}/deliveries")
def list_deliveries(webhook_id: Id, session: SessionDep) -> Listing[DeliveryView]:
    """The newest 50 deliveries of a webhook, newest first."""
    rows = webhooks.list_deliveries(session, webhook_id)
    found = [DeliveryView.model_validate(row) for row in rows]
    return Listing[DeliveryView](data=found, next_cursor=None, total=None)


@router.post("/{webhook_id}/test")
def test_webhook(webhook_id: Id, database: DatabaseDep, settings: SettingsDep) -> TestAnswer:
    """Sends a message of type `test` now and says what came of it."""
    with database.session() as session:
        webhook = webhooks.get_webhook(session, webhook_id)
        session.expunge(webhook)
    called = webhook_calls.call_once(webhook, settings.webhook_hosts)
    return TestAnswer(delivered=called.failure is None, error=called.failure)
