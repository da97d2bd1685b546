"""Rows of record batches as plain Python values, a few at a time; knows no columns.

pyarrow is imported by the first such file: a server that meets none spares its 40 MiB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from engine.errors import DataError, RowError
from engine.formats.registry import NumberedRow
from engine.formats.streams import MAX_ROW_BYTES, row_too_large

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 256


def rows_of(batches: Iterable[pa.RecordBatch]) -> Iterator[NumberedRow]:
    """The rows of batches, numbered from 1."""
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            for row in _values(batch.slice(start, BATCH_ROWS), number + 1):
                number += 1
                yield NumberedRow(number, row if isinstance(row, RowError) else _bounded(row, number))


def _values(batch: pa.RecordBatch, first: int) -> list[dict[str, Any] | RowError]:
    """The rows of a batch; a RowError for one with a date that Python does not have. Raises DataError."""
    names = batch.schema.names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"The column `{twice}` is there twice; give every column its own name.")
    batch = _without_nanoseconds(batch)
    try:
        rows: list[dict[str, Any] | RowError] = batch.to_pylist()
    except (ValueError, OverflowError):
        return [_row(batch, index, first + index) for index in range(batch.num_rows)]
    return rows


def _row(batch: pa.RecordBatch, index: int, number: int) -> dict[str, Any] | RowError:
    row = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = column[index].as_py()
        except (ValueError, OverflowError):
            reason = f"`{name}` holds a time outside the years 1 to 9999; write it as text, or as null."
            return RowError(number, reason, name)
    return row


def _without_nanoseconds(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Times in microseconds: Python's own times hold no more."""
    import pyarrow as pa

    for index, column in enumerate(batch.schema):
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            times = batch.column(index).cast(pa.timestamp("us", column.type.tz), safe=False)
            batch = batch.set_column(index, column.name, times)
    return batch


def _bounded(row: Mapping[str, Any], number: int) -> Mapping[str, Any] | RowError:
    return row if _size(row) <= MAX_ROW_BYTES else row_too_large(number)


def _size(value: Any) -> int:
    """About how large a value is as JSON: characters of text, eight bytes for everything else."""
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, Mapping):
        return sum(len(name) + _size(item) for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return sum(map(_size, value))
    return 8


def unreadable(kind: str, error: Exception) -> DataError:
    """What is raised where pyarrow raised something."""
    return DataError(
        f"The {kind} file is damaged or cut off ({error}): write it again and send the whole file."
    )
