"""Reward maps as a Parquet file: the columns of the records, and a writer of bounded memory.

Apart from `maps`, so that only who writes Parquet imports pyarrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, BinaryIO, Self

import pyarrow as pa
import pyarrow.parquet

from engine.errors import RequestError
from engine.formats.maps import RECORD_FIELDS

_GROUP_RECORDS = 1024
_GROUP_TOKENS = 2**18
"""A row group ends with the record that reaches either: what the writer holds in memory."""


class ParquetRecords:
    """Gathers records into row groups of bounded size."""

    def __init__(self, file: BinaryIO, sources: Sequence[str] | None) -> None:
        self._file = file
        self._sources = sources
        self._writer: pa.parquet.ParquetWriter | None = None
        self._waiting: list[Mapping[str, Any]] = []
        self._tokens = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        if self._writer is not None:
            self._writer.close()

    def write(self, record: Mapping[str, Any]) -> None:
        if self._sources is None:
            self._sources = list(record["token_rewards"])
        unknown = sorted(set(record["token_rewards"]) - set(self._sources))
        if unknown:
            raise RequestError(
                f"Response `{record['id']}` has the source `{unknown[0]}`, for which the Parquet file has no "
                "column; name all sources before writing."
            )
        self._waiting.append(record)
        self._tokens += len(record["tokens"])
        if len(self._waiting) >= _GROUP_RECORDS or self._tokens >= _GROUP_TOKENS:
            self._flush()

    def _flush(self) -> None:
        if self._writer is None:
            self._writer = pa.parquet.ParquetWriter(
                self._file, parquet_schema(self._sources or ()), compression="zstd"
            )
        if self._waiting:
            self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=self._writer.schema))
        self._waiting, self._tokens = [], 0


def parquet_schema(sources: Sequence[str]) -> pa.Schema:
    """The columns of RECORD_FIELDS; what is by source is a struct with a field a source.

    Raises RequestError where there is no source: Parquet has no empty struct.
    """
    if not sources:
        raise RequestError("A Parquet file of reward maps needs a source; name one, or write `.jsonl`.")
    floats, integers = pa.list_(pa.float32()), pa.list_(pa.int32())
    segment = pa.struct(
        [("start", pa.int32()), ("end", pa.int32()), ("polarity", pa.int8()), ("reward", pa.float32())]
    )
    columns = {
        "id": pa.string(),
        "side": pa.string(),
        "tokens": pa.list_(pa.string()),
        "offsets": pa.list_(integers),
        "logprobs": floats,
        "reference_logprobs": floats,
        "entropies": floats,
        "token_rewards": _by_source(sources, floats),
        "signal": _by_source(sources, pa.list_(pa.int8())),
        "pivots": _by_source(sources, integers),
        "segments": _by_source(sources, pa.list_(segment)),
        "mask": _by_source(sources, pa.list_(pa.bool_())),
    }
    return pa.schema([(name, columns[name]) for name in RECORD_FIELDS])


def _by_source(sources: Sequence[str], kind: pa.DataType) -> pa.DataType:
    return pa.struct([(source, kind) for source in sources])
