"""A path as a person wrote it, and whether anything lies there; never a surprise, whatever they wrote."""

from __future__ import annotations

from pathlib import Path


def place(written: str | Path) -> Path:
    """The path, with `~` as the home folder; a `~name` that nobody has is taken as it is written."""
    path = Path(written)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def is_there(path: Path) -> bool:
    """Whether a file or folder lies there; False too for what cannot be a path."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name, a folder that is closed to us, a NUL
        return False
