"""Bytes of a file from its start, and its lines, each of bounded length; knows no format."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from engine.errors import DataError, RowError

MAX_ROW_BYTES = 4 * 2**20
"""A row above this is refused: no response of 200,000 tokens comes near it."""

_CHUNK_BYTES = 2**16
_BUFFER_BYTES = 2**18
_IN_MEMORY_BYTES = 2**22


class Line(NamedTuple):
    """One physical line, without its line break."""

    number: int
    """Counts from 1."""
    content: bytes | None
    """None where the line is longer than the limit; its rest was skipped."""
    ended: bool
    """Whether a line break followed: False only on the last line of a file."""
    line_break: bytes = b""
    """The line break itself, with every carriage return before it."""


@contextmanager
def opened(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    """The bytes of a file from its start. A stream that was passed in is rewound and stays open."""
    if isinstance(source, Path):
        try:
            file = source.open("rb", _BUFFER_BYTES)
        except OSError as error:
            raise DataError(
                f"`{source}` cannot be read ({error.strerror}): check the name and the permissions."
            ) from error
        with file:
            yield file
    else:
        source.seek(0)
        yield source


@contextmanager
def copied(stream: BinaryIO) -> Iterator[BinaryIO]:
    """A copy of a stream that cannot go back, on disk where it is large; gone at the end."""
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as copy:
        shutil.copyfileobj(stream, copy)
        yield cast(BinaryIO, copy)


def lines(file: BinaryIO, limit: int = MAX_ROW_BYTES) -> Iterator[Line]:
    """The lines of a file, each at most `limit` bytes long; a byte order mark at the start is dropped."""
    number = 0
    while raw := file.readline(limit + 2):
        number += 1
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        ended = raw.endswith(b"\n")
        content = raw.rstrip(b"\r\n") if ended else raw
        if len(content) > limit:
            while not ended and (rest := file.readline(_CHUNK_BYTES)):
                ended = rest.endswith(b"\n")
            yield Line(number, None, ended)
        else:
            yield Line(number, content, ended, raw[len(content) :])


def row_too_large(line: int) -> RowError:
    """The refusal of a row above MAX_ROW_BYTES."""
    return RowError(line, f"The row is larger than {MAX_ROW_BYTES // 2**20} MiB; shorten it or split it.")


def damaged_here(line: int) -> RowError:
    """What is yielded where reading raised one of DAMAGED."""
    return RowError(line, "The compressed data end early or are damaged here: send the whole file again.")
