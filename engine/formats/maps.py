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

from engine.errors import RequestError, RowError
from engine.formats.atomic import atomic_file
from engine.formats.canonical import json_line
from engine.formats.compression import COMPRESSIONS, compressed, decompressed
from engine.formats.file_types.jsonl import read_json_lines
from engine.formats.file_types.parquet import PARQUET_MAGIC, read_parquet
from engine.formats.streams import opened
from engine.types import RewardMap, Segmentation

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
ENDINGS = (".jsonl", *(f".jsonl{compression.ending}" for compression in COMPRESSIONS), ".parquet")


def map_record(reward_map: RewardMap, segmentations: Mapping[str, Segmentation], text: str) -> dict[str, Any]:
    """The record of one response, `text`: plain JSON values, in the order of RECORD_FIELDS.

    Fields by source hold every source of `segmentations` (but `token_rewards`, which holds all of the map's).
    A track that was not computed is null; a number that is missing or not finite is null inside its list.
    """
    return {
        "id": reward_map.key,
        "side": reward_map.side,
        "tokens": token_texts(text, reward_map.offsets, reward_map.eos),
        "offsets": reward_map.offsets.tolist(),
        "logprobs": _track(reward_map.logprobs),
        "reference_logprobs": _track(reward_map.reference_logprobs),
        "entropies": _track(reward_map.entropies),
        "token_rewards": {source: _track(rewards) for source, rewards in reward_map.rewards.items()},
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
                from engine.formats.parquet_maps import ParquetRecords

                self._records = stack.enter_context(ParquetRecords(file, self._sources))
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
        for line, record, *_ in read_rows(stream):
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


# ----------------------------------------------------------------------------------------- values of a record


def _track(values: np.ndarray | None) -> list[float | None] | None:
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
