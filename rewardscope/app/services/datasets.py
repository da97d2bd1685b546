"""Data sets: brought in all or nothing, listed, deleted, and written out for jobs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Literal

from sqlalchemy.orm import Session

from rewardscope.app.db.models import Dataset
from rewardscope.app.services.pages import DEFAULT_LIMIT, Page
from rewardscope.app.settings import Settings
from rewardscope.engine.errors import RowError
from rewardscope.engine.types import PreferencePair

OnError = Literal["fail", "skip"]
"""`fail`: one bad row refuses the whole data set. `skip`: bad rows are left out, counted and kept as notes."""


def import_rows(
    session: Session,
    rows: Iterable[PreferencePair | RowError],
    *,
    name: str,
    origin: dict[str, Any],
    on_error: OnError = "fail",
) -> Dataset:
    """A new data set of `rows`, streamed. Raises Conflict (name taken), Invalid (bad rows, with up to 100 errors
    at ("line", n[, field]), or no row at all); the caller's rollback then leaves nothing."""
    raise NotImplementedError


def import_file(
    session: Session,
    file: BinaryIO,
    filename: str,
    *,
    settings: Settings,
    name: str | None = None,
    on_error: OnError = "fail",
) -> Dataset:
    """A new data set from an uploaded file, whose format its name and content tell. `name` defaults to the
    file's. Raises as `import_rows`, and StorageFull."""
    raise NotImplementedError


def import_folder(
    session: Session,
    path: str | Path,
    *,
    settings: Settings,
    name: str | None = None,
    on_error: OnError = "fail",
) -> Dataset:
    """A new data set from a folder or file that the server sees. Raises as `import_file`."""
    raise NotImplementedError


def list_datasets(
    session: Session, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[Dataset]:
    """Data sets, newest first."""
    raise NotImplementedError


def get_dataset(session: Session, dataset_id: int) -> Dataset:
    """The data set. Raises NotFound."""
    raise NotImplementedError


def delete_dataset(session: Session, dataset_id: int) -> None:
    """Removes the data set with its pairs and runs. Raises NotFound, and Conflict while a job works on it."""
    raise NotImplementedError


def check_disk(settings: Settings) -> None:
    """Raises StorageFull while the data folder's disk has less than `min_free_disk_mib` left."""
    raise NotImplementedError


def write_rows(session: Session, dataset_id: int, path: Path, start: int = 0) -> int:
    """Writes the pairs from position `start` on as canonical JSONL; returns how many."""
    raise NotImplementedError
