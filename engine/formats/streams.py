"""Bytes of a file as they were before compression, and lines of bounded length; knows no format."""

from __future__ import annotations

import gzip
import io
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import zstandard

from engine.errors import DataError, RowError

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MAX_ROW_BYTES = 4 * 2**20
"""A row above this is refused: no response of 200,000 tokens comes near it."""

DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError)
"""What reading raises when compressed data are cut off or damaged."""

_CHUNK_BYTES = 2**16
_IN_MEMORY_BYTES = 2**22


class Line(NamedTuple):
    """One physical line, without its line break."""

    number: int
    """Counts from 1."""
    content: bytes | None
    """None where the line is longer than the limit; its rest was skipped."""
    ended: bool
    """Whether a line break followed: False only on the last line of a file."""


@contextmanager
def opened(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    """The bytes of a file from its start. A stream that was passed in is rewound and stays open."""
    if isinstance(source, Path):
        try:
            file = source.open("rb")
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
def decompressed(file: BinaryIO) -> Iterator[BinaryIO]:
    """What is inside a gzip or zstd file, or the file itself. `file` must stand at its start."""
    magic = file.read(4)
    file.seek(0)
    if magic.startswith(GZIP_MAGIC):
        with gzip.GzipFile(fileobj=file, mode="rb") as stream:
            yield cast(BinaryIO, stream)
    elif magic.startswith(ZSTD_MAGIC):
        with io.BufferedReader(_ZstdFile(file), _CHUNK_BYTES) as reader:
            yield reader
    else:
        yield file


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
            yield Line(number, content, ended)


def damaged_here(line: int) -> RowError:
    """What is yielded where reading raised one of DAMAGED."""
    return RowError(line, "The compressed data end early or are damaged here: send the whole file again.")


class _ZstdFile(io.RawIOBase):
    """A zstd file of any number of frames; unlike the library's own reader it notices a missing end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._input = b""
        self._output = b""
        self._inside = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._output:
            self._input = self._input or self._file.read(_CHUNK_BYTES)
            if not self._input:
                if self._inside:
                    raise EOFError("The zstd frame has no end.")
                return 0
            self._output = self._frame.decompress(self._input)
            self._inside = not self._frame.eof
            self._input = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
        count = min(len(buffer), len(self._output))
        buffer[:count] = self._output[:count]
        self._output = self._output[count:]
        return count
