"""Which files of a folder hold its rows: those that a file type laid out itself, or files of one kind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from engine.errors import DataError
from engine.formats.listing import FILE_ENDINGS, ending_of, file_labels
from engine.formats.registry import FILE_TYPES

_SPLITS = ("train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval")
"""What hubs call the parts of a data set, in names of files and folders."""
_NO_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}


class Member(NamedTuple):
    """One file with rows."""

    path: Path
    name: str
    """Relative to the folder."""


def members(folder: Path) -> list[Member]:
    """The files with rows, in order. Raises DataError where there are none, or several kinds."""
    for file_type in FILE_TYPES.values():
        laid_out = None if file_type.folder is None else file_type.folder(folder)
        if laid_out is not None:
            return [Member(path, path.name) for path in laid_out]
    found = _data_files(folder, folder) or _data_files(folder, folder / "data")
    if not found:
        found = [
            member
            for place in (folder, folder / "data")
            for split in _SPLITS
            for member in _data_files(folder, place / split)
        ]
    splits = sorted({split for member in found if (split := _split_of(member)) is not None})
    if len(splits) > 1:
        names = ", ".join(f"`{member.name}`" for member in found[:10])
        raise DataError(
            f"`{folder}` holds several splits ({', '.join(splits)}), which are never read together: {names}. "
            "Name one of the files, or a folder that holds one split."
        )
    if not found:
        raise DataError(f"`{folder}` holds no {file_labels()} files; name a folder that does.")
    kinds = sorted({ending_of(member.name) for member in found})
    if len(kinds) > 1:
        raise DataError(
            f"`{folder}` holds files of several kinds ({', '.join(kinds)}); name one of the files."
        )
    return found


def _split_of(member: Member) -> str | None:
    """The split that a file is of, by the folder that it lies in or by how its name begins."""
    path = Path(member.name.lower())
    named = re.match("[a-z]+", path.name)
    words = (path.parent.name, named[0] if named is not None else "")
    return next((word for word in words if word in _SPLITS), None)


def _data_files(root: Path, folder: Path) -> list[Member]:
    if not folder.is_dir():
        return []
    return [
        Member(path, str(path.relative_to(root)))
        for path in sorted(folder.iterdir())
        if path.is_file()
        and not path.name.startswith(".")
        and path.name not in _NO_DATA
        and ending_of(path.name) in FILE_ENDINGS
    ]
