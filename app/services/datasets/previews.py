"""A data set looked at before it is brought in: read as an import reads it, and nothing stored.

The file of a form waits an hour in the data folder, so that whoever looked at it need not send it twice.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from app.errors import NotFound
from app.services.datasets.datasets import check_disk, readable_data
from app.services.names import file_name
from app.settings import Settings
from engine.apart import inspect_apart
from engine.inspection.rows import RowsSeen

KEPT_SECONDS = 3600
_TICKET = re.compile(r"[A-Za-z0-9_-]{22}")


def preview_file(file: BinaryIO, filename: str, *, chosen_by: str | None = None, first: int = 3) -> RowsSeen:
    """What an import of the file would read. Raises DataError."""
    seen = inspect_apart(file, name=file_name(filename), first=first, chosen_by=chosen_by)
    file.seek(0)
    return seen


def preview_folder(
    path: str | Path,
    *,
    settings: Settings,
    chosen_by: str | None = None,
    split: str | None = None,
    first: int = 3,
) -> RowsSeen:
    """What an import of a folder or file on the server would read. Raises DataError, Forbidden, Invalid."""
    place = readable_data(path, settings, split)
    return inspect_apart(place, first=first, chosen_by=chosen_by, split=split)


def keep(settings: Settings, file: BinaryIO, filename: str) -> str:
    """The ticket for a file that waits for its import. Raises StorageFull."""
    check_disk(settings)
    folder = _folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    ticket = secrets.token_urlsafe(16)
    place = folder / ticket
    place.mkdir(mode=0o700)
    with (place / "rows").open("wb") as kept:
        shutil.copyfileobj(file, kept)
    (place / "name.json").write_text(json.dumps(file_name(filename)), encoding="utf-8")
    return ticket


def kept(settings: Settings, ticket: str) -> tuple[Path, str]:
    """The file that waits, and what its sender calls it. Raises NotFound where it waits no more."""
    place = _folder(settings) / ticket
    if _TICKET.fullmatch(ticket) is None or not (place / "name.json").is_file():
        raise NotFound(
            "The file was looked at more than an hour ago, or is brought in already; send it again."
        )
    return place / "rows", json.loads((place / "name.json").read_text(encoding="utf-8"))


def forget(settings: Settings, ticket: str) -> None:
    """Ends the wait of a file, whether it waits or not."""
    if _TICKET.fullmatch(ticket):
        shutil.rmtree(_folder(settings) / ticket, ignore_errors=True)


def _folder(settings: Settings) -> Path:
    return settings.data_dir / "previews"


def _sweep(folder: Path) -> None:
    for place in folder.iterdir():
        with suppress(OSError):  # Another process may sweep it at the same moment.
            if time.time() - place.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(place)
