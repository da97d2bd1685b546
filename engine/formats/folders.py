"""Which files of a folder hold its rows: a data set that `datasets` saved, or files of one kind together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import DataError

_COMPRESSIONS = (".gz", ".zst")
_NO_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}


class Member(NamedTuple):
    """One file with rows."""

    path: Path
    name: str
    """Relative to the folder."""


def members(folder: Path, endings: set[str]) -> list[Member]:
    """The files with rows, in order of their names. `endings`: those of readable files, such as `.jsonl`.

    Raises DataError where there are none, or where it is unclear which are meant.
    """
    if (folder / "dataset_dict.json").is_file():
        return _only_split(folder)
    if (folder / "state.json").is_file():
        return _saved(folder)
    found = _data_files(folder, folder, endings) or _data_files(folder, folder / "data", endings)
    if not found:
        raise DataError(
            f"`{folder}` holds no JSONL, JSON, CSV, Parquet or Arrow files; name a folder that does."
        )
    kinds = sorted({_ending(member.path) for member in found})
    if len(kinds) > 1:
        raise DataError(
            f"`{folder}` holds files of several kinds ({', '.join(kinds)}); name one of the files."
        )
    return found


def _only_split(folder: Path) -> list[Member]:
    """The files of a saved dictionary of splits, where it has just one."""
    splits = _json(folder / "dataset_dict.json").get("splits")
    if not isinstance(splits, list) or not splits:
        raise DataError(f"`{folder}/dataset_dict.json` names no splits; save the data set again.")
    if len(splits) > 1:
        raise DataError(f"`{folder}` holds several splits; name one of them, as in `{folder}/{splits[0]}`.")
    return _saved(folder / str(splits[0]))


def _saved(folder: Path) -> list[Member]:
    """The files of a data set that `save_to_disk` wrote, in its own order."""
    files = _json(folder / "state.json").get("_data_files")
    names = [str(file.get("filename")) for file in files or [] if isinstance(file, dict)]
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise DataError(f"`{folder}` has no file `{name}`, which its state.json names; save it again.")
    if not names:
        raise DataError(f"`{folder}/state.json` names no files; save the data set again.")
    return [Member(folder / name, name) for name in names]


def _data_files(root: Path, folder: Path, endings: set[str]) -> list[Member]:
    if not folder.is_dir():
        return []
    return [
        Member(path, str(path.relative_to(root)))
        for path in sorted(folder.iterdir())
        if path.is_file()
        and not path.name.startswith(".")
        and path.name not in _NO_DATA
        and _ending(path) in endings
    ]


def _ending(path: Path) -> str:
    name = path.name.lower()
    return Path(path.with_name(name).stem if name.endswith(_COMPRESSIONS) else name).suffix


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"`{path}` cannot be read ({error}); save the data set again.") from error
    return value if isinstance(value, dict) else {}
