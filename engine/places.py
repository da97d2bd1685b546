"""A path as a person wrote it, and whether anything lies there; never a surprise, whatever they wrote."""

from __future__ import annotations

import os
from pathlib import Path


def place(written: str | Path) -> Path:
    """The path, with `~` as the home folder; a `~name` that nobody has is taken as it is written."""
    path = Path(written)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def resolved(path: Path) -> Path:
    """The absolute path with its links followed; what cannot be a path is left as it is."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return path


def is_there(path: Path) -> bool:
    """Whether a file or folder lies there; False too for what cannot be a path."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name, a folder that is closed to us, a NUL
        return False
