"""Names that people give what they bring and ask for."""

from __future__ import annotations

from pathlib import PurePath

from app.errors import Invalid, Problem
from engine.formats.listing import stem

MAX_NAME_CHARACTERS = 200


def clean_name(name: str, of: str, why: str = "") -> str:
    """The name with single spaces. `of` and `why` are said where it is refused, as in `A data set`, `, which
    its runs take too`. Raises Invalid."""
    name = " ".join(name.split())
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
        bounds = f"1 to {MAX_NAME_CHARACTERS} printable characters"
        raise Invalid(
            f"{of}'s name has {bounds}{why}; choose another one.",
            errors=[Problem(("body", "name"), f"must have {bounds}")],
        )
    return name


def file_name(filename: str) -> str:
    """What a file was called where it came from, without folders."""
    return PurePath(filename.replace("\\", "/")).name or "upload"


def name_of_file(filename: str) -> str:
    """A name for what a file holds: that of the file, without the endings that say its type."""
    return stem(filename)[:MAX_NAME_CHARACTERS]
