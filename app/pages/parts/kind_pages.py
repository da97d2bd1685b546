"""How each run kind is shown: where its page and its result are, and what of it is left out of its facts.

A noun's pages register a `KindPages` by the name of the run kind; a kind that registers none has the page
that all runs have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from fastapi import Request, Response
from sqlalchemy.orm import Session

from app.db.tables import Run
from app.pages.parts.rendering import url_of
from engine.registry import Registry


class ResultLink(NamedTuple):
    """Where to see what a run left."""

    address: str
    label: str


def no_result(request: Request, run: Run) -> ResultLink | None:
    """For kinds whose result has no page of its own."""
    return None


def own_page(request: Request, run: Run) -> str:
    """The address of the page of the run itself."""
    return url_of(request, "run", run_id=run.id)


def no_notes(session: Session, run: Run) -> list[str]:
    """For kinds of whose failures there is no more to say than the error."""
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class KindPages:
    """How the runs of a kind are shown."""

    name: str
    """Of the run kind."""
    show: Callable[[Request, Session, Run], Response] | None = None
    """The whole page of a run; None for the page that all runs have."""
    result: Callable[[Request, Run], ResultLink | None] = no_result
    """Where its result is seen, as soon as there is something."""
    address: Callable[[Request, Run], str] = own_page
    """Where a notice of its end leads."""
    form: str | None = None
    """The page whose form asks for it again with changes (`?clone=`)."""
    notes: Callable[[Session, Run], list[str]] = no_notes
    """What is left of a run that failed, in sentences."""
    hidden_request: tuple[str, ...] = ()
    """Fields of its request that are shown elsewhere."""
    hidden_result: tuple[str, ...] = ()
    """Fields of its result that are shown elsewhere."""
    refreshes_in_parts: bool = False
    """Whether all that its end changes is in parts that refresh themselves, so that the page stays."""
    is_compared: bool = False
    """Whether its runs can stand side by side."""


KIND_PAGES: Registry[KindPages] = Registry("run_pages")


def pages_of(run: Run) -> KindPages:
    """How a run is shown."""
    return KIND_PAGES.get(run.kind) or KindPages(name=run.kind)
