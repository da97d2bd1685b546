"""Tables of pairs that somebody wants to find again: a name, and what the page's address asked for."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.tables import SavedView
from app.errors import Conflict, Invalid, NotFound, Problem
from app.services.datasets.datasets import get_dataset

MAX_VIEWS = 200
"""Of a data set: more than anybody reads, and a bound for what a page must list."""


def list_views(session: Session, dataset_id: int) -> list[SavedView]:
    """The saved views of a data set by their names. Raises NotFound."""
    get_dataset(session, dataset_id)
    query = select(SavedView).where(SavedView.dataset_id == dataset_id).order_by(SavedView.name)
    return list(session.scalars(query))


def get_view(session: Session, dataset_id: int, view_id: int) -> SavedView:
    """One of them. Raises NotFound."""
    view = session.get(SavedView, view_id)
    if view is None or view.dataset_id != dataset_id:
        raise NotFound(f"The data set has no saved view {view_id}; its page lists those that it has.")
    return view


def save_view(session: Session, dataset_id: int, name: str, query: Mapping[str, str]) -> SavedView:
    """Saves a view; one of the same name is replaced.

    Raises NotFound, Invalid (name), Conflict (too many).
    """
    name = " ".join(name.split())
    if not 1 <= len(name) <= 100:
        raise Invalid(
            "A view needs a name of at most 100 characters.",
            errors=[Problem(("body", "name"), "must have 1 to 100 characters")],
        )
    views = {view.name: view for view in list_views(session, dataset_id)}
    view = views.get(name)
    if view is None:
        if len(views) >= MAX_VIEWS:
            raise Conflict(f"The data set has {MAX_VIEWS} saved views; delete one that nobody needs.")
        view = SavedView(dataset_id=dataset_id, name=name)
        session.add(view)
    view.query = dict(query)
    session.flush()
    session.refresh(view)
    return view


def delete_view(session: Session, dataset_id: int, view_id: int) -> None:
    """Forgets it. Raises NotFound."""
    session.delete(get_view(session, dataset_id, view_id))
    session.flush()
