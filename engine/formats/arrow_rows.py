"""Rows of Parquet and Arrow files, batch by batch, as plain Python values; knows no columns.

pyarrow is imported by the first such file: a server that meets none spares its 40 MiB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from engine.errors import DataError, RowError
from engine.formats.rows import NumberedRow, row_too_large
from engine.formats.streams import MAX_ROW_BYTES

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET_MAGIC = b"PAR1"
ARROW_FILE_MAGIC = b"ARROW1"
ARROW_MAGICS = (ARROW_FILE_MAGIC, b"\xff\xff\xff\xff")
"""Of a file with a footer, and of a stream, which is what `datasets` saves."""

_BATCH_ROWS = 256


def read_parquet(file: BinaryIO) -> Iterator[NumberedRow]:
    """The rows of a Parquet file, numbered from 1. Raises DataError where it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet

    try:
        with pa.parquet.ParquetFile(file, pre_buffer=False, buffer_size=2**20) as parquet:
            yield from _rows(parquet.iter_batches(batch_size=_BATCH_ROWS, use_threads=False))
    except (pa.ArrowException, OSError) as error:
        raise _unreadable("Parquet", error) from error


def read_arrow(file: BinaryIO) -> Iterator[NumberedRow]:
    """The rows of an Arrow file or stream, numbered from 1. Raises DataError where it is damaged."""
    import pyarrow as pa
    import pyarrow.ipc

    try:
        magic = file.read(len(ARROW_FILE_MAGIC))
        file.seek(0)
        if magic == ARROW_FILE_MAGIC:
            with pa.ipc.open_file(file) as reader:
                yield from _rows(reader.get_batch(index) for index in range(reader.num_record_batches))
        else:
            with pa.ipc.open_stream(file) as reader:
                yield from _rows(reader)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable("Arrow", error) from error


def _rows(batches: Iterator[pa.RecordBatch]) -> Iterator[NumberedRow]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            for row in _without_nanoseconds(batch.slice(start, _BATCH_ROWS)).to_pylist():
                number += 1
                yield NumberedRow(number, _bounded(row, number))


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


def _unreadable(kind: str, error: Exception) -> DataError:
    return DataError(
        f"The {kind} file is damaged or cut off ({error}): write it again and send the whole file."
    )
