"""Lists as files: rows written one after the other as JSON lines, CSV or Parquet, in bounded memory.

Columns come from the row's model, so that a file has the same ones whatever is in it. What has no column type
(nested values) is JSON text in CSV and Parquet.
"""

from __future__ import annotations

import csv
import io
import json
import types
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

TableFormat = Literal["jsonl", "csv", "parquet"]
MEDIA_TYPES: dict[TableFormat, str] = {
    "jsonl": "application/jsonl",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
Batches = Iterable[list[BaseModel]]


def encode(kind: TableFormat, row: type[BaseModel], batches: Batches) -> Iterator[bytes]:
    """The bytes of a file of `kind` with all rows of `batches`, which are of the model `row`."""
    return _ENCODERS[kind](row, batches)


def _jsonl(row: type[BaseModel], batches: Batches) -> Iterator[bytes]:
    for batch in batches:
        yield "".join(item.model_dump_json() + "\n" for item in batch).encode()


def _csv(row: type[BaseModel], batches: Batches) -> Iterator[bytes]:
    names = list(row.model_fields)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(names)
    for batch in batches:
        for item in batch:
            values = _plain(item)
            writer.writerow([_cell(values[name]) for name in names])
        yield _taken(text).encode()
    yield _taken(text).encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # A spreadsheet would run a text that begins like this as a formula.
    return (
        f"'{text}" if isinstance(value, str) and text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
    )


def _taken(text: io.StringIO) -> str:
    """What was written; leaves the buffer empty."""
    value = text.getvalue()
    text.seek(0)
    text.truncate()
    return value


def _parquet(row: type[BaseModel], batches: Batches) -> Iterator[bytes]:
    # Here and not above: most servers are never asked for Parquet, and the library takes memory.
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    kinds[datetime] = pa.timestamp("us", tz="UTC")
    columns = {name: _scalar(field.annotation) for name, field in row.model_fields.items()}
    schema = pa.schema(
        [(name, pa.string() if kind is None else kinds[kind]) for name, kind in columns.items()]
    )
    tail = Tail()
    with pq.ParquetWriter(tail, schema, compression="zstd") as writer:
        for batch in batches:
            rows = [_parquet_row(item, columns) for item in batch]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            # The writer only appends, so what it has written may leave at once.
            yield tail.take()
    yield tail.take()


def _parquet_row(item: BaseModel, columns: dict[str, type | None]) -> dict[str, Any]:
    plain = _plain(item)
    return {
        name: getattr(item, name)
        if kind is not None
        else (None if plain[name] is None else json.dumps(plain[name], ensure_ascii=False))
        for name, kind in columns.items()
    }


class Tail(io.RawIOBase):
    """A file that remembers how much went through it, and holds only what nobody has taken yet."""

    def __init__(self) -> None:
        self._written = 0
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._held += view
        self._written += len(view)
        return len(view)

    def tell(self) -> int:
        return self._written

    def take(self) -> bytes:
        """What was written since it was last asked."""
        held = bytes(self._held)
        self._held.clear()
        return held


def _scalar(annotation: Any) -> type | None:
    """The column type of a field, None where it is nested; `X | None` counts as X."""
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [part for part in get_args(annotation) if part is not type(None)]
        return _scalar(rest[0]) if len(rest) == 1 else None
    if get_origin(annotation) is Literal:
        return str
    if isinstance(annotation, type):
        return next(
            (kind for kind in (bool, int, float, str, datetime) if issubclass(annotation, kind)), None
        )
    return None


def _plain(item: BaseModel) -> dict[str, Any]:
    """The row as JSON has it: null where a number is missing."""
    values: dict[str, Any] = json.loads(item.model_dump_json())
    return values


_ENCODERS: dict[TableFormat, Callable[[type[BaseModel], Batches], Iterator[bytes]]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "parquet": _parquet,
}
