"""Settings: how programs sign in, whom webhooks tell, who works, and what this server is and stands on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from sqlalchemy.orm import Session

from app.dependencies import DatabaseDep, SessionDep, SettingsDep
from app.errors import AppError
from app.pages.parts.forms import validated
from app.pages.parts.rendering import PageContext, render, see_other, url_of
from app.security import load_token
from app.services import server_facts
from app.services.runs import webhook_calls, webhooks, workers
from app.services.runs.webhooks import ENDS, WebhookRequest, WebhookState
from app.services.runs.workers import WorkerState
from app.services.server_facts import ServerFacts, SettingInForce
from app.settings import Settings

SHOWN_END = 4
"""Characters of the token's end, by which one knows it again; none of a short token."""
LONG_TOKEN = 20

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Access:
    """How programs sign in."""

    url: str
    token_place: str
    """Where the token stands."""
    token_end: str
    logout_url: str


@dataclass(frozen=True, slots=True)
class WebhookLine:
    """An address that is told."""

    url: str
    statuses: str
    is_signed: bool
    created_at: datetime
    last: str
    """What became of the last delivery; '' where there was none."""
    last_at: datetime | None
    last_failed: bool
    waiting: int
    test_url: str
    delete_url: str


@dataclass(frozen=True, slots=True)
class EndingChoice:
    """A box of the form: one way in which runs end."""

    name: str
    is_ticked: bool


@dataclass(frozen=True, slots=True)
class WebhookForm:
    """What was typed, and what is wrong with it."""

    action: str
    url: str
    endings: list[EndingChoice]
    problem: str | None


@dataclass(frozen=True, slots=True)
class Tested:
    """What came of a test."""

    url: str
    failure: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsPage(PageContext):
    """The whole page."""

    access: Access
    webhooks: list[WebhookLine]
    form: WebhookForm
    tested: Tested | None
    workers: list[WorkerState]
    facts: ServerFacts
    settings: list[SettingInForce]


@router.get("/settings", name="pages:settings")
def show_settings(request: Request, session: SessionDep, settings: SettingsDep) -> Response:
    """The page."""
    return render(request, "settings/show.html", _page(request, session, settings))


@router.post("/settings/webhooks", name="pages:webhook_add")
def add_webhook(
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    url: Annotated[str, Form()] = "",
    secret: Annotated[str, Form()] = "",
    statuses: Annotated[list[str], Form()] = [],  # noqa: B006 -- FastAPI copies it
) -> Response:
    """Adds an address; what cannot be one is said beside the form."""
    values = {"url": url.strip(), "secret": secret.strip() or None, "statuses": statuses}
    try:
        webhooks.register(session, validated(WebhookRequest, values, "body"), settings.webhook_hosts)
    except AppError as error:
        form = _form(request, url, statuses, error.detail)
        page = _page(request, session, settings, form=form)
        return render(request, "settings/show.html", page, status=error.status)
    return see_other(url_of(request, "settings") + "#webhooks")


@router.post("/settings/webhooks/{webhook_id:int}/delete", name="pages:webhook_delete")
def delete_webhook(request: Request, session: SessionDep, webhook_id: int) -> Response:
    """Removes an address."""
    webhooks.delete_webhook(session, webhook_id)
    return see_other(url_of(request, "settings") + "#webhooks")


@router.post("/settings/webhooks/{webhook_id:int}/test", name="pages:webhook_test")
def test_webhook(request: Request, database: DatabaseDep, settings: SettingsDep, webhook_id: int) -> Response:
    """Sends a test and shows what came of it. No transaction is open while the other side answers."""
    with database.session() as session:
        webhook = webhooks.get_webhook(session, webhook_id)
        session.expunge(webhook)
    called = webhook_calls.call_once(webhook, settings.webhook_hosts)
    with database.session() as session:
        page = _page(request, session, settings, tested=Tested(webhook.url, called.failure))
    return render(request, "settings/show.html", page)


def _page(
    request: Request,
    session: Session,
    settings: Settings,
    *,
    form: WebhookForm | None = None,
    tested: Tested | None = None,
) -> SettingsPage:
    return SettingsPage(
        title="Settings",
        section="settings",
        access=_access(request, settings),
        webhooks=[_line(request, state) for state in webhooks.list_webhooks(session)],
        form=form or _form(request, "", ["succeeded", "failed", "crashed"], None),
        tested=tested,
        workers=workers.list_workers(session),
        facts=server_facts.read_facts(session, settings),
        settings=server_facts.settings_in_force(settings),
    )


def _access(request: Request, settings: Settings) -> Access:
    token = load_token(settings)
    if settings.token is not None:
        place = "It was set by REWARDSCOPE_TOKEN where the server was started."
    elif settings.token_file is not None:
        place = f"It stands in {settings.token_file} on the server's machine."
    else:
        place = f"It was made at the first start and stands in {settings.data_dir / 'token'}."
    return Access(
        url=(settings.public_url or str(request.base_url)).rstrip("/"),
        token_place=place,
        token_end=token[-SHOWN_END:] if len(token) >= LONG_TOKEN else "",
        logout_url=url_of(request, "logout"),
    )


def _form(request: Request, url: str, statuses: list[str], problem: str | None) -> WebhookForm:
    endings = [EndingChoice(name, name in statuses) for name in ENDS]
    return WebhookForm(url_of(request, "webhook_add"), url, endings, problem)


def _line(request: Request, state: WebhookState) -> WebhookLine:
    webhook, last = state.webhook, state.last
    told, at = "", None
    if last is not None and last.delivered_at is not None:
        told, at = f"run {last.run_id}: delivered", last.delivered_at
    elif last is not None:
        again = "it is tried again" if last.due_at is not None else "it was given up"
        tries = "one attempt" if last.attempts == 1 else f"{last.attempts} attempts"
        told, at = (
            f"run {last.run_id}: {last.error or 'is being sent'} After {tries}; {again}.",
            last.created_at,
        )
    return WebhookLine(
        url=webhook.url,
        statuses=", ".join(str(status) for status in webhook.statuses),
        is_signed=webhook.secret is not None,
        created_at=webhook.created_at,
        last=told,
        last_at=at,
        last_failed=last is not None and last.error is not None,
        waiting=state.waiting,
        test_url=url_of(request, "webhook_test", webhook_id=webhook.id),
        delete_url=url_of(request, "webhook_delete", webhook_id=webhook.id),
    )
