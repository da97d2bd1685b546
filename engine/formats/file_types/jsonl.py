"""JSONL: one object a line. Streams; knows no columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from engine.formats.compression import DAMAGED
from engine.formats.json_text import is_storable, parse_line
from engine.formats.registry import FILE_TYPES, FileType, NumberedRow
from engine.formats.streams import damaged_here, lines


def read_json_lines(file: BinaryIO) -> Iterator[NumberedRow]:
    """One row a line that is not blank. A line that is no object becomes a RowError, and reading goes on."""
    number = 0
    try:
        for line in lines(file):
            number = line.number
            if line.content is None or line.content.strip():
                storable = line.content is not None and is_storable(line.content)
                yield NumberedRow(number, parse_line(line), storable=storable)
    except DAMAGED:
        yield NumberedRow(number + 1, damaged_here(number + 1))


FILE_TYPES.register(
    FileType(
        name="jsonl",
        label="JSONL",
        description="One JSON object a line.",
        endings=(".jsonl", ".ndjson", ".json"),
        read=lambda file, known: read_json_lines(file),
        shape=lambda text, known: text.startswith(b"{"),
    )
)
