"""A file type in one file: under a first line `toy`, one pair a line as `prompt => chosen <> rejected`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from engine.errors import RowError
from engine.formats.registry import FILE_TYPES, FileType, KnownColumns, NumberedRow


def read(file: BinaryIO, known: KnownColumns) -> Iterator[NumberedRow]:
    """A row for every line under the first."""
    for number, line in enumerate(file, start=1):
        if number == 1:
            continue
        prompt, arrow, sides = line.decode().rstrip("\n").partition(" => ")
        chosen, diamond, rejected = sides.partition(" <> ")
        if arrow and diamond:
            yield NumberedRow(number, {"prompt": prompt, "chosen": chosen, "rejected": rejected})
        else:
            yield NumberedRow(
                number, RowError(number, "The line is no pair; write prompt => chosen <> rejected.")
            )


FILE_TYPES.register(
    FileType(
        name="toy",
        label="Toy",
        description="A line `toy`, and under it a pair a line.",
        endings=(".toy",),
        read=read,
        magics=(b"toy\n",),
    )
)
