"""CSV with a header: comma, semicolon, tab or bar, whichever finds known columns in the header.

Cells are text; spans, token lists, `meta` and `tools` are JSON inside a cell. An empty cell is a
missing value, except in `prompt`, where it is the empty prompt. Streams.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any, BinaryIO

from engine.errors import DataError, RowError
from engine.formats.compression import DAMAGED
from engine.formats.json_text import parse_json
from engine.formats.registry import FILE_TYPES, FileType, KnownColumns, NumberedRow
from engine.formats.streams import MAX_ROW_BYTES, damaged_here, lines, row_too_large

_DELIMITERS = (",", ";", "\t", "|")
_JSON_ENDINGS = ("spans", "token_reward", "token_rewards", "token_offsets")
_LABELS = {"true": True, "1": True, "false": False, "0": False}

# The limit is the process's own; a cell may be as large as a row.
csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))


def find_delimiter(header: str, known: KnownColumns) -> str | None:
    """The delimiter that makes a header hold the most columns that are known; None where none makes it hold
    any."""
    found = {delimiter: known(_columns_of(header, delimiter)) for delimiter in _DELIMITERS}
    best = max(found, key=found.__getitem__)
    return best if found[best] else None


def read_csv(file: BinaryIO, known: KnownColumns) -> Iterator[NumberedRow]:
    """One row a record, numbered by the line where it starts. DataError: the first line is no header."""
    text = _Text(file)
    header = next(text, "")
    delimiter = find_delimiter(header, known)
    if delimiter is None:
        raise DataError(
            "The first line of the CSV file names no column `chosen`, `rejected` or `response`; add a header."
        )
    columns = _columns_of(header, delimiter)
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise DataError(
            f"The header of the CSV file (line 1) names the column `{twice}` twice; give every column its "
            "own name."
        )
    records = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        line = text.line + 1
        try:
            cells = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            yield NumberedRow(line, _no_record(line, error))
        except RowError as error:
            yield NumberedRow(line, error)
            return
        except DAMAGED:
            yield NumberedRow(line, damaged_here(line))
            return
        else:
            if cells:
                yield NumberedRow(line, _row(columns, cells, line))


class _Text:
    """The file's lines as text, with their line breaks, and how many were taken.

    Bytes that are no UTF-8 become lone surrogates, which every row with them is refused for.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._lines = lines(file)
        self.line = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        number, content, _, line_break = next(self._lines)
        self.line = number
        if content is None:
            raise row_too_large(number)
        return content.decode(errors="surrogateescape") + line_break.decode()


def _columns_of(header: str, delimiter: str) -> list[str]:
    """The names that a header holds; none where it is no CSV."""
    try:
        names = next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error:
        return []
    return [name.strip() for name in names]


def _row(columns: list[str], cells: list[str], line: int) -> dict[str, Any] | RowError:
    if len(cells) != len(columns):
        return RowError(
            line,
            f"The row has {len(cells)} cells, the header {len(columns)}; put cells with delimiters or line "
            "breaks in double quotes.",
        )
    if sum(map(len, cells)) > MAX_ROW_BYTES:
        return row_too_large(line)
    row: dict[str, Any] = {}
    for column, cell in zip(columns, cells, strict=True):
        try:
            row[column] = _value(column, cell)
        except ValueError as error:
            return RowError(line, f"The cell must hold JSON, and does not: {error}.", column)
    return row


def _value(column: str, cell: str) -> Any:
    if not cell:
        return "" if column == "prompt" else None
    if column.endswith(_JSON_ENDINGS) or (column == "meta" and cell.startswith("{")):
        return parse_json(cell)
    if column == "label":
        return _LABELS.get(cell.strip().lower(), cell)
    return cell


def _no_record(line: int, error: csv.Error) -> RowError:
    return RowError(
        line, f"The row is no CSV ({error}); double the quotes inside cells and close every quoted cell."
    )


FILE_TYPES.register(
    FileType(
        name="csv",
        label="CSV",
        description="A header, and a row a record, with commas, semicolons, tabs or bars between the cells.",
        endings=(".csv", ".tsv"),
        read=read_csv,
        shape=lambda text, known: (
            find_delimiter(text.split(b"\n", 1)[0].decode(errors="replace"), known) is not None
        ),
    )
)
