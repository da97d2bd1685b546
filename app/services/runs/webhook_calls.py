"""Sends what webhooks are due: one request each, with an end in time, to a checked address, and never on to
where a redirect leads.

Knows no transaction: what an attempt came to is returned.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import httpx
import structlog

from app.db.tables import Webhook
from app.errors import AppError
from app.services.runs import webhook_places, webhooks
from app.services.runs.webhooks import Outgoing

SECONDS = 10.0
"""For a whole request, however slowly the other side answers."""
GONE = 410
"""The status by which an address says that it wants nothing any more."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Called:
    """What one attempt came to."""

    outgoing: Outgoing
    failure: str | None
    """A sentence; None where the other side took it (2xx)."""
    is_final: bool = False
    """Whether to try no more."""


async def call_all(outgoing: list[Outgoing], hosts: Sequence[str], seconds: float = SECONDS) -> list[Called]:
    """Sends all of these at the same time, to `hosts` of the settings. Raises nothing for an address that
    fails, whatever it is."""
    # Neither redirects nor proxies of the environment: they could lead a request with our data anywhere.
    async with httpx.AsyncClient(
        timeout=seconds, follow_redirects=False, trust_env=False, transport=httpx.AsyncHTTPTransport()
    ) as client:
        return await asyncio.gather(*(_call(client, one, hosts, seconds) for one in outgoing))


def call_once(webhook: Webhook, hosts: Sequence[str], seconds: float = SECONDS) -> Called:
    """Sends a test to a webhook and waits for what comes of it."""
    body = json.dumps(webhooks.sample_message()).encode()
    outgoing = Outgoing(0, webhook.url, body, webhook.secret, 1)
    return asyncio.run(call_all([outgoing], hosts, seconds))[0]


async def _call(client: httpx.AsyncClient, one: Outgoing, hosts: Sequence[str], seconds: float) -> Called:
    try:
        async with asyncio.timeout(seconds):
            addresses = await asyncio.to_thread(webhook_places.addresses_of, one.url, hosts)
            return await _send(client, one, addresses)
    except (TimeoutError, httpx.TimeoutException):
        return Called(one, f"It did not answer within {seconds:g} seconds.")
    except AppError as error:
        return Called(one, error.detail)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return Called(one, f"It cannot be reached: {str(error) or type(error).__name__}.")
    except Exception as error:
        log.exception("webhook_not_callable", delivery_id=one.delivery_id)
        return Called(one, f"It cannot be called: {type(error).__name__}: {error}.")


async def _send(client: httpx.AsyncClient, one: Outgoing, addresses: Sequence[str]) -> Called:
    """POST to the first of `addresses` that takes a connection, under the name that the URL has."""
    url = httpx.URL(one.url)
    headers = {
        **webhooks.signed_headers(one.message_id, int(time.time()), one.body, one.secret),
        "user-agent": f"rewardscope/{version('rewardscope')}",
        "host": url.netloc.decode("ascii"),
    }
    for number, address in enumerate(addresses, 1):
        try:
            # Only the head of the answer is read, so that an endless body costs nothing.
            async with client.stream(
                "POST",
                url.copy_with(host=address),
                content=one.body,
                headers=headers,
                extensions={"sni_hostname": url.raw_host.decode("ascii")},
            ) as answer:
                return _judged(one, answer)
        except httpx.ConnectError:
            if number == len(addresses):
                raise
    raise AssertionError("a host that was looked up has an address")


def _judged(one: Outgoing, answer: httpx.Response) -> Called:
    if answer.is_success:
        return Called(one, None)
    if answer.is_redirect:
        return Called(one, f"It answered {answer.status_code}, and redirects are not followed.")
    if answer.status_code == GONE:
        return Called(one, "It answered 410: it wants nothing any more.", is_final=True)
    return Called(one, f"It answered {answer.status_code}.")
