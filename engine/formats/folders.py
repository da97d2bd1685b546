"""Which files of a folder hold its rows: those that a file type laid out itself, or files of one kind."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from engine.errors import DataError
from engine.formats.listing import FILE_ENDINGS, ending_of, file_labels
from engine.formats.registry import FILE_TYPES

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
        raise DataError(f"`{folder}` holds no {file_labels()} files; name a folder that does.")
    kinds = sorted({ending_of(member.name) for member in found})
    if len(kinds) > 1:
        raise DataError(
            f"`{folder}` holds files of several kinds ({', '.join(kinds)}); name one of the files."
        )
    return found


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
