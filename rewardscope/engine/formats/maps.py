"""Reward maps as records, one a response, in JSONL or Parquet: what `rewardscope score` leaves behind.

A record has exactly the fields of RECORD_FIELDS. Missing numbers are null, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from rewardscope.engine.errors import RequestError, RowError
from rewardscope.engine.formats.arrow_rows import PARQUET_MAGIC, read_parquet
from rewardscope.engine.formats.atomic import atomic_file, compressed
from rewardscope.engine.formats.canonical import json_line
from rewardscope.engine.formats.json_rows import read_json_lines
from rewardscope.engine.formats.streams import decompressed, opened
from rewardscope.engine.types import RewardMap, Segmentation

RECORD_FIELDS = (
    "id",
    "side",
    "tokens",
    "offsets",
    "logprobs",
    "reference_logprobs",
    "entropies",
    "token_rewards",
    "signal",
    "pivots",
    "segments",
    "mask",
)
ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")

_GROUP_RECORDS = 1024
_GROUP_TOKENS = 2**18
"""A row group of Parquet ends with the record that reaches either: what the writer holds in memory."""


def map_record(reward_map: RewardMap, segmentations: Mapping[str, Segmentation], text: str) -> dict[str, Any]:
    """The record of one response, `text`: plain JSON values, in the order of RECORD_FIELDS.

    Fields by source hold every source of `segmentations` (but `token_rewards`, which holds all of the map's).
    A lane that was not computed is null; a number that is missing or not finite is null inside its list.
    """
    return {
        "id": reward_map.key,
        "side": reward_map.side,
        "tokens": token_texts(text, reward_map.offsets, reward_map.eos),
        "offsets": reward_map.offsets.tolist(),
        "logprobs": _lane(reward_map.logprobs),
        "reference_logprobs": _lane(reward_map.reference_logprobs),
        "entropies": _lane(reward_map.entropies),
        "token_rewards": {source: _lane(rewards) for source, rewards in reward_map.rewards.items()},
        "signal": {source: cut.signal.tolist() for source, cut in segmentations.items()},
        "pivots": {source: cut.pivots.tolist() for source, cut in segmentations.items()},
        "segments": {source: _segments(cut) for source, cut in segmentations.items()},
        "mask": {source: cut.mask.tolist() for source, cut in segmentations.items()},
    }


def token_texts(text: str, offsets: np.ndarray | Sequence[Sequence[int]], eos: str | None) -> list[str]:
    """The text of every token; joined they are the response, followed by its EOS where it has one.

    Where a character is split over several tokens, the first one gets it and the others get "".
    offsets: (response, 2) code points [start, end).
    """
    pieces: list[str] = []
    written = 0
    for start, end in np.asarray(offsets).tolist():
        pieces.append(text[max(start, written) : end])
        written = max(written, end)
    if eos is not None:
        pieces[-1] = eos
    return pieces


class MapWriter:
    """Writes records to `.jsonl` (also `.jsonl.gz`, `.jsonl.zst`) or `.parquet`: whole, or not at all.

    A context manager: the file appears when the block ends well. `sources` fixes the columns of Parquet; None
    takes those of the first record. `responses` counts what was written.
    Raises RequestError for another ending, ResourceError when the disk is full.
    """

    def __init__(self, path: Path, sources: Sequence[str] | None = None) -> None:
        if not path.name.endswith(ENDINGS):
            raise RequestError(f"`{path.name}` must end in one of {', '.join(ENDINGS)}; choose another name.")
        self._path = path
        self._sources = sources
        self._stack = ExitStack()
        self.responses = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            file = stack.enter_context(atomic_file(self._path))
            self._records: _Records
            if self._path.name.endswith(".parquet"):
                self._records = stack.enter_context(_ParquetRecords(file, self._sources))
            else:
                self._records = _JsonRecords(stack.enter_context(compressed(file, self._path.name)))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, reward_map: RewardMap, segmentations: Mapping[str, Segmentation], text: str) -> None:
        """Writes the record of one response."""
        self.write(map_record(reward_map, segmentations, text))

    def write(self, record: Mapping[str, Any]) -> None:
        """Writes a record that `map_record` made, or `read_maps` read."""
        self._records.write(record)
        self.responses += 1


def read_maps(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file that MapWriter wrote, as they were. Raises DataError where it is no such file."""
    with opened(path) as file:
        read_rows = read_parquet if file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC else read_json_lines
    with opened(path) as file, decompressed(file) as stream:
        for line, record, _ in read_rows(stream):
            if isinstance(record, RowError):
                raise record
            absent = [name for name in RECORD_FIELDS if name not in record]
            if absent:
                raise RowError(line, "A reward map needs this field; score the data again.", absent[0])
            yield dict(record)


# ------------------------------------------------------------------------------------- the two kinds of file


class _Records(Protocol):
    def write(self, record: Mapping[str, Any]) -> None: ...


class _JsonRecords:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, record: Mapping[str, Any]) -> None:
        self._stream.write(json_line(record))


class _ParquetRecords:
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


# ----------------------------------------------------------------------------------------- values of a record


def _lane(values: np.ndarray | None) -> list[float | None] | None:
    if values is None:
        return None
    numbers: list[float | None] = values.tolist()
    if not np.isfinite(values).all():
        numbers = [_finite(value) for value in values.tolist()]
    return numbers


def _segments(cut: Segmentation) -> list[dict[str, Any]]:
    return [
        {
            "start": int(segment.start),
            "end": int(segment.end),
            "polarity": int(segment.polarity),
            "reward": _finite(float(segment.reward)),
        }
        for segment in cut.segments
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
