"""Sends what webhooks are due: one request each, with an end in time, and never on to where a redirect leads.

Knows no transaction: what an attempt came to is returned.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from importlib.metadata import version

import httpx

from app.db.tables import Webhook
from app.services.runs import webhooks
from app.services.runs.webhooks import Outgoing

SECONDS = 10.0
"""For a whole request, however slowly the other side answers."""
GONE = 410
"""The status by which an address says that it wants nothing any more."""


@dataclass(frozen=True, slots=True)
class Called:
    """What one attempt came to."""

    outgoing: Outgoing
    failure: str | None
    """A sentence; None where the other side took it (2xx)."""
    is_final: bool = False
    """Whether to try no more."""


async def call_all(outgoing: list[Outgoing], seconds: float = SECONDS) -> list[Called]:
    """Sends all of these at the same time. Raises nothing for an address that fails."""
    # Redirects are not followed: they could lead a request with our data anywhere.
    async with httpx.AsyncClient(timeout=seconds, follow_redirects=False) as client:
        return await asyncio.gather(*(_call(client, one, seconds) for one in outgoing))


def call_once(webhook: Webhook, seconds: float = SECONDS) -> Called:
    """Sends a test to a webhook and waits for what comes of it."""
    body = json.dumps(webhooks.sample_message()).encode()
    outgoing = Outgoing(0, webhook.url, body, webhook.secret, 1)
    return asyncio.run(call_all([outgoing], seconds))[0]


async def _call(client: httpx.AsyncClient, one: Outgoing, seconds: float) -> Called:
    headers = {
        **webhooks.signed_headers(one.message_id, int(time.time()), one.body, one.secret),
        "user-agent": f"rewardscope/{version('rewardscope')}",
    }
    try:
        async with (
            asyncio.timeout(seconds),
            # Only the head of the answer is read, so that an endless body costs nothing.
            client.stream("POST", one.url, content=one.body, headers=headers) as answer,
        ):
            return _judged(one, answer)
    except (TimeoutError, httpx.TimeoutException):
        return Called(one, f"It did not answer within {seconds:g} seconds.")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return Called(one, f"It cannot be reached: {str(error) or type(error).__name__}.")


def _judged(one: Outgoing, answer: httpx.Response) -> Called:
    if answer.is_success:
        return Called(one, None)
    if answer.is_redirect:
        return Called(one, f"It answered {answer.status_code}, and redirects are not followed.")
    if answer.status_code == GONE:
        return Called(one, "It answered 410: it wants nothing any more.", is_final=True)
    return Called(one, f"It answered {answer.status_code}.")
