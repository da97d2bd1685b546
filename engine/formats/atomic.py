"""A file appears whole or not at all: written beside its place, synced, and renamed."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from engine.errors import EngineError, RequestError, ResourceError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` when the block ends well, and leaves nothing otherwise.

    What is no regular file (a pipe, `/dev/stdout`) is written directly, as it cannot be replaced.
    Raises ResourceError when the disk is full and RequestError when the place cannot be written to.
    """
    path = path.resolve()
    with writing(path):
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        try:
            with partial.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError while `path` is written into a ResourceError (no room left) or a RequestError."""
    try:
        yield
    except EngineError:
        raise
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise ResourceError(
                f"There is no room left to write `{path}`: free some space or choose another disk."
            ) from error
        raise RequestError(
            f"`{path}` cannot be written ({error.strerror or error}): choose a folder that exists and may be "
            "written to."
        ) from error


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself survive a power cut, where the file system allows a folder to be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
