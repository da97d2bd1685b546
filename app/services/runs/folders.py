"""The folders that trainings leave: where they lie, and their end together with the run.

Files go once the transaction that forgets them is committed, so that a run is never without its files. What
a registered model lies in stays: the final model of a training outlives its run, until it is deleted itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import event, select
from sqlalchemy.orm import Session, SessionTransaction

from app.db.tables import Model, Run
from app.errors import Forbidden
from app.services.runs.kinds import has_checkpoints
from app.settings import Settings

FINAL = "final"
"""Where in its folder a training leaves the model that it made."""

log = structlog.get_logger(__name__)


def folder_of(settings: Settings, run_id: int) -> Path:
    """The folder of a run, absolute; it need not be there."""
    return (settings.runs_dir / str(run_id)).resolve()


def runs_folder_of(settings: Settings, model: Model) -> Path | None:
    """Where a model lies that one of our trainings made; None for any other model."""
    folder = Path(model.path)
    ours = model.origin.get("kind") == "training" and folder.is_relative_to(settings.runs_dir.resolve())
    return folder if ours else None


def remove_model_with(session: Session, settings: Settings, model: Model) -> None:
    """Removes the files of a model that this transaction forgets, once it is committed.

    Raises Forbidden for a model that none of our trainings made: its files are somebody else's.
    """
    folder = runs_folder_of(settings, model)
    if folder is None:
        raise Forbidden(
            f"The model `{model.name}` was made by no training of this server, so its files are not the "
            "server's to remove; forget the model without them.",
            code="not_ours",
        )
    places = [Path(path) for path in session.scalars(select(Model.path).where(Model.id != model.id))]
    kept = [place for place in places if place.is_relative_to(folder)]

    def remove() -> None:
        remove_all_but(folder, kept)
        with suppress(OSError):  # Its run may be gone already; a folder that holds something stays.
            folder.parent.rmdir()

    after_commit(session, remove)


def begin_empty(folder: Path) -> Path | None:
    """Puts aside what lies where a run is about to begin, such as what a lost data base has left; returns
    where it lies now, None where there was nothing."""
    if not folder.exists():
        return None
    number = 1
    while (aside := folder.with_name(f"{folder.name}-found-{number}")).exists():
        number += 1
    folder.rename(aside)
    return aside


def remove_with(session: Session, runs: Iterable[Run]) -> None:
    """Removes the folders of runs that this transaction deletes, once it is committed."""
    folders = [Path(run.request["folder"]) for run in runs if has_checkpoints(run)]
    if not folders:
        return
    places = [Path(path) for path in session.scalars(select(Model.path))]
    for folder in folders:
        kept = [place for place in places if place.is_relative_to(folder)]
        after_commit(session, lambda folder=folder, kept=kept: remove_all_but(folder, kept))  # type: ignore[misc]


def remove_all_but(folder: Path, kept: Collection[Path]) -> None:
    """Removes a folder, but for what lies in one of the `kept` folders. What cannot be removed is logged."""
    if folder in kept or not folder.is_dir():
        return
    if not any(place.is_relative_to(folder) for place in kept):
        shutil.rmtree(folder, onerror=_tell)
        return
    for child in folder.iterdir():
        if child.is_dir() and not child.is_symlink():
            remove_all_but(child, kept)
        else:
            child.unlink(missing_ok=True)


def after_commit(session: Session, action: Callable[[], None]) -> None:
    """Does `action` once, when the session's transaction is committed, and never where it is rolled back."""
    waits = True
    ours = session.get_nested_transaction() or session.get_transaction()

    @event.listens_for(session, "after_commit")
    def act(session: Session) -> None:
        nonlocal waits
        if waits and not session.in_nested_transaction():
            waits = False
            action()

    @event.listens_for(session, "after_soft_rollback")
    def forget(session: Session, ended: SessionTransaction) -> None:
        nonlocal waits
        inner = ours
        while waits and inner is not None:
            waits = inner is not ended
            inner = inner.parent


def _tell(function: Any, path: str, error: Any) -> None:
    log.warning("folder_stays", path=path, reason=str(error[1]))
