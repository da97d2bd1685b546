"""A trained model's folder as one tar file, written while it is read: a few megabytes at a time.

Only plain files of the folder itself go in, under a folder of the model's name: no links, no owners.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.db.tables import Model
from app.errors import Conflict, Forbidden
from app.services.runs.folders import runs_folder_of
from app.settings import MIB, Settings

CHUNK = MIB
END = bytes(tarfile.RECORDSIZE)
"""Zeros that end a tar file; at least two blocks of them."""


@dataclass(frozen=True, slots=True)
class Download:
    """A tar file that is yet to be read."""

    name: str
    size: int
    """Bytes of the whole tar file."""
    chunks: Iterator[bytes]


def download(settings: Settings, model: Model) -> Download:
    """The files of a model that a training made.

    Raises Forbidden for any other model: its files are somebody else's, and were brought by a path. Raises
    Conflict where the files are not on this machine.
    """
    folder = runs_folder_of(settings, model)
    if folder is None:
        raise Forbidden(
            f"The model `{model.name}` was made by no training of this server; take it from where it lies.",
            code="not_ours",
        )
    files = _files(folder)
    if not files:
        raise Conflict(
            f"The files of the model `{model.name}` are not in {folder} on this machine; mount the folder of "
            "runs (REWARDSCOPE_RUNS_DIR) here, or fetch the model from the worker that made it.",
            code="files_gone",
        )
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", model.name).strip("-.") or f"model-{model.id}"
    headers = [(path, size, _header(f"{name}/{path.relative_to(folder)}", size)) for path, size in files]
    size = sum(len(header) + _padded(size) for _, size, header in headers) + len(END)
    return Download(f"{name}.tar", size, _chunks(headers))


def _files(folder: Path) -> list[tuple[Path, int]]:
    """Plain files below the folder with their sizes, in order; links are not followed."""
    found = []
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place) / name
            if path.is_file() and not path.is_symlink():
                found.append((path, path.stat().st_size))
    return found


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)


def _chunks(files: list[tuple[Path, int, bytes]]) -> Iterator[bytes]:
    for path, size, header in files:
        yield header
        left = size
        with path.open("rb") as file:
            while left:
                chunk = file.read(min(CHUNK, left))
                if not chunk:
                    raise OSError(f"{path} was cut short while it was sent")
                left -= len(chunk)
                yield chunk
        yield bytes(_padded(size) - size)
    yield END


def _padded(size: int) -> int:
    """`size` in whole blocks."""
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
