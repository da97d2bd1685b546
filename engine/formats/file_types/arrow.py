"""Arrow IPC: a file, a stream, and the folder of streams that `datasets` saves; knows no columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from engine.errors import DataError
from engine.formats.arrow_batches import rows_of, unreadable
from engine.formats.registry import FILE_TYPES, FileType, NumberedRow

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


def saved_files(folder: Path) -> list[Path] | None:
    """The files of a data set that `save_to_disk` wrote, or of a dictionary of splits that has just one; None
    where the folder is neither. Raises DataError where it is unclear which are meant."""
    if (folder / "dataset_dict.json").is_file():
        return _only_split(folder)
    return _saved(folder) if (folder / "state.json").is_file() else None


def _only_split(folder: Path) -> list[Path]:
    """The files of a saved dictionary of splits, where it has just one."""
    splits = _json(folder / "dataset_dict.json").get("splits")
    if not isinstance(splits, list) or not splits:
        raise DataError(f"`{folder}/dataset_dict.json` names no splits; save the data set again.")
    if len(splits) > 1:
        raise DataError(f"`{folder}` holds several splits; name one of them, as in `{folder}/{splits[0]}`.")
    return _saved(folder / str(splits[0]))


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
