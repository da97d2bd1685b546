"""What of the server's disk a request may name: plain files and folders, inside the roots of the settings.

Whoever may send requests is not whoever may read every file that the server can read, and a device or a pipe
that is opened as a file never answers. Outside the roots nothing is said of what lies there.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from app.errors import Forbidden, Invalid, Problem
from app.settings import Settings
from engine.places import is_there, place, resolved

Kind = Literal["data", "model"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def roots_of(settings: Settings, kind: Kind) -> tuple[Path, ...] | None:
    """The folders that requests may name something in; None where any folder will do."""
    named = settings.data_roots if kind == "data" else settings.model_roots
    if named is None and settings.binds_loopback:
        return None
    folders = (*(named or ()), settings.data_dir, settings.runs_dir)
    return tuple(place(folder).resolve() for folder in folders)


def readable(
    settings: Settings, kind: Kind, written: str | Path, *, field: str, missing: bool = False
) -> Path:
    """The file or folder that a request names, absolute and with its links followed; with `missing` also one
    that is not there, for who says so better.

    Raises Forbidden (outside the roots, whether it exists or not) and Invalid (nothing there, or neither a
    plain file nor a folder) about `field` of the body.
    """
    path = resolved(place(written))
    _check_inside(settings, kind, path, written)
    if missing and not is_there(path):
        return path
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        why = "does not exist on the server" if not is_there(path) else f"cannot be read ({error})"
        raise unreadable(written, why, field) from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise unreadable(written, "is a device, a pipe or a socket", field)
    return path


def check_files(settings: Settings, kind: Kind, files: Iterable[Path], *, field: str) -> None:
    """That each of a folder's files is a plain file inside the roots, wherever its links lead.

    Raises as `readable`.
    """
    for file in files:
        path = resolved(file)
        _check_inside(settings, kind, path, file)
        if is_there(path) and not path.is_file():
            raise unreadable(file, "is no plain file", field)


def _check_inside(settings: Settings, kind: Kind, path: Path, written: str | Path) -> None:
    roots = roots_of(settings, kind)
    if roots is None or any(path.is_relative_to(root) for root in roots):
        return
    raise Forbidden(
        f"`{written}` is in no folder that this server reads {'data' if kind == 'data' else 'models'} from "
        f"({', '.join(f'`{root}`' for root in roots)}); copy it there, or have an administrator add its "
        f"folder to REWARDSCOPE_{kind.upper()}_ROOTS.",
        code="outside_roots",
    )


def unreadable(written: str | Path, why: str, field: str) -> Invalid:
    """The refusal of what a request names on the server's disk."""
    return Invalid(
        f"`{written}` {why}; name a folder or file that the server can read.",
        errors=[Problem(("body", field), why)],
    )
