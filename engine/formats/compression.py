"""How files may be compressed, to read them and to write them; knows no format."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import BinaryIO, cast

import zstandard

DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError)
"""What reading raises when compressed data are cut off or damaged."""

_CHUNK_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class Compression:
    """One way to compress a file."""

    label: str
    ending: str
    """Of names, after that of the file type."""
    magic: bytes
    """How every such file begins."""
    reading: Callable[[BinaryIO], AbstractContextManager[BinaryIO]]
    """What is inside a file that stands at its start."""
    writing: Callable[[BinaryIO], AbstractContextManager[BinaryIO]]
    """A compressor in front of a file, which stays open."""


@contextmanager
def decompressed(file: BinaryIO) -> Iterator[BinaryIO]:
    """What is inside a compressed file, or the file itself. `file` must stand at its start."""
    start = file.read(4)
    file.seek(0)
    for compression in COMPRESSIONS:
        if start.startswith(compression.magic):
            with compression.reading(file) as stream:
                yield stream
            return
    yield file


@contextmanager
def compressed(file: BinaryIO, name: str) -> Iterator[BinaryIO]:
    """`file`, or a compressor in front of it where `name` ends as compressed files do; `file` stays open.

    The bytes depend on the content alone: gzip's header gets no name and no time.
    """
    for compression in COMPRESSIONS:
        if name.endswith(compression.ending):
            with compression.writing(file) as stream:
                yield stream
            return
    yield file


def without_compression(name: str) -> str:
    """A file's name, in lower case, without the ending of a compression."""
    path = PurePath(name.lower())
    return path.stem if path.suffix in {compression.ending for compression in COMPRESSIONS} else path.name


@contextmanager
def _read_gzip(file: BinaryIO) -> Iterator[BinaryIO]:
    with gzip.GzipFile(fileobj=file, mode="rb") as stream:
        yield cast(BinaryIO, stream)


@contextmanager
def _write_gzip(file: BinaryIO) -> Iterator[BinaryIO]:
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as stream:
        yield cast(BinaryIO, stream)


@contextmanager
def _read_zstd(file: BinaryIO) -> Iterator[BinaryIO]:
    with io.BufferedReader(_ZstdFile(file), _CHUNK_BYTES) as reader:
        yield reader


@contextmanager
def _write_zstd(file: BinaryIO) -> Iterator[BinaryIO]:
    with zstandard.ZstdCompressor().stream_writer(file, closefd=False) as writer:
        yield cast(BinaryIO, writer)


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


COMPRESSIONS = (
    Compression("gzip", ".gz", b"\x1f\x8b", _read_gzip, _write_gzip),
    Compression("zstd", ".zst", b"\x28\xb5\x2f\xfd", _read_zstd, _write_zstd),
)
