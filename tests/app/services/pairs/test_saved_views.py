"""Saved views: by name, of one data set, replaced and forgotten."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from app.errors import Conflict, Invalid, NotFound
from app.services.pairs import saved_views
from tests.app import factories


def test_a_view_is_kept_by_its_name_and_replaced_by_the_next_of_that_name(session: Session) -> None:
    dataset = factories.make_dataset(session)
    saved_views.save_view(session, dataset.id, "  the  worst ", {"sort": "margin"})
    again = saved_views.save_view(session, dataset.id, "the worst", {"sort": "conflict"})
    saved_views.save_view(session, dataset.id, "all", {})

    names = [(view.name, view.query) for view in saved_views.list_views(session, dataset.id)]
    assert names == [("all", {}), ("the worst", {"sort": "conflict"})]
    saved_views.delete_view(session, dataset.id, again.id)
    assert [view.name for view in saved_views.list_views(session, dataset.id)] == ["all"]


def test_what_cannot_be_saved_is_said(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_views, "MAX_VIEWS", 1)
    dataset, other = factories.make_dataset(session), factories.make_dataset(session, name="other")
    view = saved_views.save_view(session, dataset.id, "one", {})
    with pytest.raises(Conflict, match="delete one"):
        saved_views.save_view(session, dataset.id, "two", {})
    with pytest.raises(Invalid, match="needs a name"):
        saved_views.save_view(session, dataset.id, "  ", {})
    with pytest.raises(NotFound):
        saved_views.get_view(session, other.id, view.id)
    with pytest.raises(NotFound):
        saved_views.list_views(session, 0)
