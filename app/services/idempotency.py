"""The same POST twice is one POST: the first answer is kept for a day under the client's `Idempotency-Key`.

`begin` and `finish` belong into the transaction of the work itself: if that is rolled back, so is the key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from app.db.tables import IdempotencyKey
from app.errors import Conflict, Invalid, Problem

KEPT = timedelta(hours=24)
MAX_KEY_LENGTH = 255


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What the first request was answered."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any] | None


def begin(session: Session, key: str, route: str, payload: bytes) -> StoredAnswer | None:
    """The first answer, if this very request was answered before; None if it is the first, now ours to do.

    Raises Invalid (the key stood for another payload, or is no key), Conflict (the first is still under way).
    """
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not key.isprintable():
        raise Invalid(
            f"An Idempotency-Key has 1 to {MAX_KEY_LENGTH} printable characters; send another one.",
            errors=[Problem(("header", "Idempotency-Key"), f"must have 1 to {MAX_KEY_LENGTH} characters")],
        )
    _lock(session, key, route)
    _forget_old(session)
    digest = hashlib.sha256(payload).hexdigest()
    known = session.scalar(
        select(IdempotencyKey).where(IdempotencyKey.key == key, IdempotencyKey.route == route)
    )
    if known is None:
        session.add(IdempotencyKey(key=key, route=route, payload_hash=digest))
        session.flush()
        return None
    if known.payload_hash != digest:
        raise Invalid(
            "This Idempotency-Key was used for another request; send a new key with a new request.",
            code="idempotency_key_reused",
            errors=[Problem(("header", "Idempotency-Key"), "was used with another payload")],
        )
    if known.status is None:
        raise _still_running()
    return StoredAnswer(known.status, dict(known.headers or {}), known.body)


def finish(
    session: Session,
    key: str,
    route: str,
    *,
    status: int,
    headers: dict[str, str] | None = None,
    body: dict[str, Any] | None = None,
) -> None:
    """Keeps the answer that `begin` will give from now on."""
    row = session.get_one(IdempotencyKey, (key, route))
    row.status, row.headers, row.body = status, headers or {}, body
    session.flush()


def _lock(session: Session, key: str, route: str) -> None:
    """Holds the key until the transaction ends. A second request does not wait for the first one's work."""
    name = int.from_bytes(hashlib.sha256(f"{route}\n{key}".encode()).digest()[:8], "big", signed=True)
    if not session.scalar(text("SELECT pg_try_advisory_xact_lock(:name)"), {"name": name}):
        raise _still_running()


def _forget_old(session: Session) -> None:
    session.execute(
        delete(IdempotencyKey)
        .where(IdempotencyKey.created_at < func.now() - KEPT)
        .execution_options(synchronize_session=False)
    )


def _still_running() -> Conflict:
    return Conflict(
        "The first request with this Idempotency-Key is still under way; ask again in a moment.",
        code="idempotency_key_in_use",
    )
