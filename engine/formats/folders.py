"""Which files of a folder hold its rows: those that a file type laid out itself, or files of one kind."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from engine.errors import DataError
from engine.formats.listing import FILE_ENDINGS, ending_of, file_labels
from engine.formats.registry import FILE_TYPES
from engine.formats.splits import SPLITS, check_split, several_splits, split_of

_NO_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}


class Member(NamedTuple):
    """One file with rows."""

    path: Path
    name: str
    """Relative to the folder."""


def members(folder: Path, split: str | None = None) -> list[Member]:
    """The files with rows, in order, of a split where one is named.

    Raises DataError where there are none, or several kinds, or several splits and none is named.
    """
    for file_type in FILE_TYPES.values():
        laid_out = None if file_type.folder is None else file_type.folder(folder, split)
        if laid_out is not None:
            return [Member(path, path.name) for path in laid_out]
    found = _data_files(folder, folder) or _data_files(folder, folder / "data")
    if not found:
        found = [
            member
            for place in (folder, folder / "data")
            for name in SPLITS
            for member in _data_files(folder, place / name)
        ]
    splits = sorted({name for member in found if (name := split_of(member.name)) is not None})
    if split is not None:
        check_split(folder, split, splits)
        found = [member for member in found if split_of(member.name) == split]
    elif len(splits) > 1:
        raise several_splits(folder, splits)
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
