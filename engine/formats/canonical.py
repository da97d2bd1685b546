"""The JSONL in which pairs and tasks rest and travel: one canonical row a line, read back without loss.

What a pair looks like is `pairs.pair_to_row`'s to say; a task is a row of its fields.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.errors import DataError, RowError
from engine.formats.atomic import atomic_file
from engine.formats.compression import DAMAGED, compressed, decompressed
from engine.formats.json_text import is_storable, parse_line
from engine.formats.pairs import pair_to_row
from engine.formats.rows import row_to_pair
from engine.formats.streams import MAX_ROW_BYTES, lines, opened
from engine.tasks import Task
from engine.types import PreferencePair

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_MAX_LINE_BYTES = 8 * MAX_ROW_BYTES
"""A row that Parquet or CSV held may be several times larger in JSON, which escapes characters."""


def write_pairs(path: Path, pairs: Iterable[PreferencePair]) -> int:
    """Writes canonical JSONL (`.gz` and `.zst` compress), whole or not at all; how many pairs it holds.

    Raises ResourceError when the disk is full, RequestError when the place cannot be written to.
    """
    count = 0
    with atomic_file(path) as file, compressed(file, path.name) as stream:
        for pair in pairs:
            stream.write(json_line(pair_to_row(pair)))
            count += 1
    return count


def read_pairs(path: Path, start: int = 0) -> Iterator[PreferencePair]:
    """The pairs of canonical JSONL from position `start` on (from 0); earlier lines are not parsed.

    Raises RowError or DataError where the file is not what `write_pairs` wrote.
    """
    with opened(path) as file, decompressed(file) as stream:
        rows = (
            line for line in lines(stream, _MAX_LINE_BYTES) if line.content is None or line.content.strip()
        )
        try:
            for line in itertools.islice(rows, start, None):
                row = parse_line(line)
                if isinstance(row, RowError):
                    raise row
                storable = is_storable(line.content or b"")
                yield row_to_pair(row, line.number, storable=storable, canonical=True)
        except DAMAGED as error:
            raise DataError(f"`{path}` is cut off or damaged: write it again.") from error


def write_tasks(path: Path, tasks: Iterable[Task]) -> int:
    """Writes tasks as JSONL, whole or not at all; how many they are. Raises as `write_pairs`."""
    count = 0
    with atomic_file(path) as file:
        for task in tasks:
            file.write(json_line(task.model_dump(mode="json")))
            count += 1
    return count


def json_line(row: Mapping[str, Any]) -> bytes:
    """One line of JSONL in UTF-8. Raises DataError where a value has no JSON form."""
    try:
        return _ENCODER.encode(row).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise DataError(
            f"Row `{row.get('id')}` cannot be written as JSON ({error}): correct the value."
        ) from error
