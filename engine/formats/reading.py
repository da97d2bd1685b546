"""`read`: pairs out of any file or folder that people have, recognised by content and name.

Knows which reader belongs to which file, that keys are unique, and nothing of columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Literal, get_args

from engine.errors import DataError, RequestError, RowError
from engine.formats.arrow_rows import ARROW_MAGICS, PARQUET_MAGIC, read_arrow, read_parquet
from engine.formats.csv_rows import find_delimiter, read_csv
from engine.formats.folders import Member, members
from engine.formats.json_rows import read_json_array, read_json_lines
from engine.formats.rows import NumberedRow, row_to_pair
from engine.formats.streams import DAMAGED, copied, decompressed, opened
from engine.types import PreferencePair

Format = Literal["auto", "jsonl", "json", "csv", "parquet", "arrow"]
FileFormat = Literal["jsonl", "json", "csv", "parquet", "arrow"]

_READERS: dict[FileFormat, Callable[[BinaryIO], Iterator[NumberedRow]]] = {
    "jsonl": read_json_lines,
    "json": read_json_array,
    "csv": read_csv,
    "parquet": read_parquet,
    "arrow": read_arrow,
}
_BY_ENDING: dict[str, FileFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_NEED_SEEKING = ("parquet", "arrow")
_HEAD_BYTES = 2**16


def read(
    source: Path | BinaryIO, format: Format = "auto", name: str | None = None
) -> Iterator[PreferencePair | RowError]:
    """The pairs of a file, a stream or a folder, in order; a RowError stands where a row is refused.

    `name` is what the user calls a stream: its ending helps to recognise it. Rows without `id` or `key` are
    named by their number. Memory is bounded by one batch of rows and some bytes a key.
    Raises DataError, at the call or while reading, where the whole is not what it claims to be or has no row.
    """
    if format not in get_args(Format):
        raise RequestError(f"There is no format `{format}`; choose one of {', '.join(get_args(Format))}.")
    if isinstance(source, Path) and source.is_dir():
        found = members(source, set(_BY_ENDING))
        formats = [file_format(member.path, format) for member in found]
        return _pairs(_rows_of_members(found, formats), str(source))
    if isinstance(source, Path):
        return _pairs(_rows(source, file_format(source, format)), str(source))
    if not source.seekable():
        return _read_copy(source, format, name)
    return _pairs(_rows(source, file_format(source, format, name)), name or "the stream")


def file_format(source: Path | BinaryIO, format: Format = "auto", name: str | None = None) -> FileFormat:
    """The format of a file: what was asked for, else what the content shows, else what the name says.

    Raises DataError where the file is empty, or nothing that we read.
    """
    called = name or (str(source) if isinstance(source, Path) else "the stream")
    with ExitStack() as stack:
        file = stack.enter_context(opened(source))
        try:
            head = stack.enter_context(decompressed(file)).read(_HEAD_BYTES)
        except DAMAGED as error:
            raise DataError(f"`{called}` is cut off or damaged: send the whole file again.") from error
    if not head:
        raise DataError(f"`{called}` is empty; send a file with at least one row.")
    return _recognised(head, called) if format == "auto" else format


def _recognised(head: bytes, called: str) -> FileFormat:
    ending = _ending(called)
    by_name = _BY_ENDING.get(ending)
    if head.startswith(PARQUET_MAGIC):
        return "parquet"
    if head.startswith(ARROW_MAGICS):
        return "arrow"
    if by_name in ("parquet", "arrow"):
        raise DataError(f"`{called}` is no {by_name} file inside; write it again, or give it its right name.")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"[") and by_name != "csv" and ending not in (".jsonl", ".ndjson"):
        return "json"
    if by_name is not None:
        return by_name
    if text.startswith(b"{"):
        return "jsonl"
    if find_delimiter(text.split(b"\n", 1)[0].decode(errors="replace")) is not None:
        return "csv"
    raise DataError(
        f"`{called}` is neither JSONL, JSON, CSV, Parquet nor Arrow with the columns of preference pairs; "
        "convert it to JSONL with `prompt`, `chosen` and `rejected`."
    )


def _ending(called: str) -> str:
    path = Path(called.lower())
    return Path(path.stem).suffix if path.suffix in (".gz", ".zst") else path.suffix


def _rows(source: Path | BinaryIO, format: FileFormat) -> Iterator[NumberedRow]:
    with ExitStack() as stack:
        file = stack.enter_context(opened(source))
        stream = stack.enter_context(decompressed(file))
        if format in _NEED_SEEKING and stream is not file:
            stream = stack.enter_context(copied(stream))
        yield from _READERS[format](stream)


def _rows_of_members(found: list[Member], formats: list[FileFormat]) -> Iterator[NumberedRow]:
    """The rows of several files; their errors name the file."""
    for member, format in zip(found, formats, strict=True):
        for row in _rows(member.path, format):
            yield _in_file(row, member.name) if len(found) > 1 else row


def _in_file(row: NumberedRow, name: str) -> NumberedRow:
    if not isinstance(row.content, RowError):
        return row._replace(file=name)
    error = row.content
    return NumberedRow(row.line, RowError(error.line, f"{error.reason} (In `{name}`.)", error.field), name)


def _pairs(rows: Iterator[NumberedRow], called: str) -> Iterator[PreferencePair | RowError]:
    """Makes pairs of rows and refuses a key that was there before."""
    first_lines: dict[int, int] = {}
    number = 0
    for number, (line, content, file) in enumerate(rows, start=1):
        if isinstance(content, RowError):
            yield content
            continue
        where = "" if file is None else f" (In `{file}`.)"
        try:
            pair = row_to_pair(content, line, number)
        except RowError as error:
            yield RowError(line, error.reason + where, error.field)
            continue
        first = first_lines.setdefault(_digest(pair.key), number if file else line)
        if first != (number if file else line):
            place = f"row {first} of the folder" if file else f"line {first}"
            yield RowError(
                line, f"The key `{pair.key}` is taken by {place}; give each row its own.{where}", "id"
            )
            continue
        yield pair
    if not number:
        raise DataError(f"`{called}` holds no rows; send at least one.")


def _digest(key: str) -> int:
    """64 bits in place of the key: two of ten million keys share them once in 400,000 data sets."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest())


def _read_copy(source: BinaryIO, format: Format, name: str | None) -> Iterator[PreferencePair | RowError]:
    with copied(source) as copy:
        yield from read(copy, format, name)
