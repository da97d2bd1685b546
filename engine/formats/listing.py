"""What can be read, in words and endings: made of the registry, for forms, commands, the API and the docs."""

from __future__ import annotations

from pathlib import PurePath

from engine.formats.compression import COMPRESSIONS, without_compression
from engine.formats.registry import FILE_TYPES

FILE_ENDINGS = tuple(dict.fromkeys(ending for one in FILE_TYPES.values() for ending in one.endings))
"""Of all file types, not compressed."""
ENDINGS = (*FILE_ENDINGS, *(compression.ending for compression in COMPRESSIONS))
"""Of all files that are read: what the file input of a form accepts."""


def file_labels(last: str = "or") -> str:
    """The file types in one list: `JSONL, JSON, CSV, Parquet or Arrow`."""
    *labels, end = [one.label for one in FILE_TYPES.values()]
    return f"{', '.join(labels)} {last} {end}"


def file_sentence() -> str:
    """What a file may be, as the beginning of a sentence."""
    return f"{file_labels()}, also compressed ({', '.join(one.ending for one in COMPRESSIONS)})"


def ending_of(name: str) -> str:
    """The ending of a file's name before that of a compression: `.jsonl` of `Pairs.JSONL.gz`."""
    return PurePath(without_compression(name)).suffix


def stem(name: str) -> str:
    """A file's name without the endings that say what it is."""
    path = PurePath(name)
    while path.suffix.lower() in ENDINGS:
        path = path.with_suffix("")
    return path.name
