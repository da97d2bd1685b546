"""Parquet, read batch by batch; knows no columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from engine.formats.arrow_batches import BATCH_ROWS, rows_of, unreadable
from engine.formats.registry import FILE_TYPES, FileType, NumberedRow

PARQUET_MAGIC = b"PAR1"


def read_parquet(file: BinaryIO) -> Iterator[NumberedRow]:
    """The rows of a Parquet file, numbered from 1. Raises DataError where it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet

    try:
        with pa.parquet.ParquetFile(file, pre_buffer=False, buffer_size=2**20) as parquet:
            yield from rows_of(parquet.iter_batches(batch_size=BATCH_ROWS, use_threads=False))
    except (pa.ArrowException, OSError) as error:
        raise unreadable("Parquet", error) from error


FILE_TYPES.register(
    FileType(
        name="parquet",
        label="Parquet",
        description="Columns of a table; spans are lists of structs.",
        endings=(".parquet",),
        read=lambda file, known: read_parquet(file),
        magics=(PARQUET_MAGIC,),
        seeks=True,
    )
)
