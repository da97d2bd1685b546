"""Arrow IPC: a file, a stream, and the folder of streams that `datasets` saves; knows no columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from engine.errors import DataError
from engine.formats.arrow_batches import rows_of, unreadable
from engine.formats.registry import FILE_TYPES, FileType, NumberedRow
from engine.formats.splits import check_split, several_splits

_FILE_MAGIC = b"ARROW1"
_STREAM_MAGIC = b"\xff\xff\xff\xff"


def read_arrow(file: BinaryIO) -> Iterator[NumberedRow]:
    """The rows of an Arrow file or stream, numbered from 1. Raises DataError where it is damaged."""
    import pyarrow as pa
    import pyarrow.ipc

    try:
        magic = file.read(len(_FILE_MAGIC))
        file.seek(0)
        if magic == _FILE_MAGIC:
            with pa.ipc.open_file(file) as reader:
                yield from rows_of(reader.get_batch(index) for index in range(reader.num_record_batches))
        else:
            with pa.ipc.open_stream(file) as reader:
                yield from rows_of(reader)
    except (pa.ArrowException, OSError) as error:
        raise unreadable("Arrow", error) from error


def saved_files(folder: Path, split: str | None = None) -> list[Path] | None:
    """The files of a data set that `save_to_disk` wrote, or of a split of a dictionary of them, the only one
    where none is named; None where the folder is neither. Raises DataError where it is unclear which are
    meant."""
    if (folder / "dataset_dict.json").is_file():
        return _of_split(folder, split)
    if not (folder / "state.json").is_file():
        return None
    own = _json(folder / "state.json").get("_split")
    if split is not None:
        check_split(folder, split, [] if own is None else [str(own)])
    return _saved(folder)


def _of_split(folder: Path, split: str | None) -> list[Path]:
    """The files of a split of a saved dictionary of them."""
    splits = _json(folder / "dataset_dict.json").get("splits")
    if not isinstance(splits, list) or not splits:
        raise DataError(f"`{folder}/dataset_dict.json` names no splits; save the data set again.")
    names = [str(name) for name in splits]
    if split is not None:
        check_split(folder, split, names)
    elif len(names) > 1:
        raise several_splits(folder, names)
    return _saved(folder / (split or names[0]))


def _saved(folder: Path) -> list[Path]:
    """The files of a data set that `save_to_disk` wrote, in its own order."""
    files = _json(folder / "state.json").get("_data_files")
    names = [str(file.get("filename")) for file in files or [] if isinstance(file, dict)]
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise DataError(f"`{folder}` has no file `{name}`, which its state.json names; save it again.")
    if not names:
        raise DataError(f"`{folder}/state.json` names no files; save the data set again.")
    return [folder / name for name in names]


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"`{path}` cannot be read ({error}); save the data set again.") from error
    return value if isinstance(value, dict) else {}


FILE_TYPES.register(
    FileType(
        name="arrow",
        label="Arrow",
        description="A file, a stream, or the folder that `datasets` saves with `save_to_disk`.",
        endings=(".arrow",),
        read=lambda file, known: read_arrow(file),
        magics=(_FILE_MAGIC, _STREAM_MAGIC),
        seeks=True,
        folder=saved_files,
    )
)
