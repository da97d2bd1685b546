"""The numbers that tables of pairs sort and filter by, as arrays in memory: a few MB for 100,000 pairs.

Every question about all pairs of a run at once (which pass, in which order, how many, how are they spread, do
two sources agree) is then milliseconds of NumPy. Six histograms of 100,000 pairs take PostgreSQL 110 ms, and
the arrays themselves 100 ms to read, once. They are kept by what they were made of: another rule or one more
chunk makes them anew. Data sets never change, so their ids and meta fields are read once.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Float64, Int32, Int64
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db.tables import Dataset, Run
from engine.conflict import PairScores

SCORE_COLUMNS = PairScores._fields
MAX_META_KEYS = 40
"""Of a data set, the commonest; a data set whose rows have more keys is better searched by text."""
MAX_META_CHARACTERS = 200
_HELD_BYTES = 256 * 2**20
"""What the arrays of all runs and data sets may take together; the ones used last stay in any case."""

Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class ScoreColumns:
    """What a run found of its pairs by one source, in the order of pairs; NaN where it cannot be said."""

    pair_ids: Int64[np.ndarray, " pairs"]
    numbers: Mapping[str, Float64[np.ndarray, " pairs"]]
    """By the names of `SCORE_COLUMNS`."""
    derived: dict[Any, Any] = field(default_factory=dict)
    """What was made of these numbers, such as their orders: worth keeping as long as they are."""

    @property
    def nbytes(self) -> int:
        """What the arrays take, with an order and a histogram of each column."""
        return self.pair_ids.nbytes + 2 * sum(column.nbytes for column in self.numbers.values())

    def order(self, column: str, descending: bool) -> Int64[np.ndarray, " pairs"]:
        """Places of the pairs from low to high or from high to low; equal ones as they come, missing last."""
        name = ("order", column, descending)
        if name not in self.derived:
            self.derived[name] = ordered(self.numbers[column], descending)
        found: np.ndarray = self.derived[name]
        return found


@dataclass(frozen=True, slots=True)
class MetaColumn:
    """One field of the rows' `meta`, as codes of its values; -1 where a row lacks it."""

    values: Sequence[str]
    """As they are shown and asked for: numbers in their order, then texts."""
    codes: Int32[np.ndarray, " pairs"]
    counts: Sequence[int]
    """How many pairs have each value."""


@dataclass(frozen=True, slots=True)
class PairColumns:
    """What tells the pairs of a data set apart besides their texts, in the order of pairs."""

    pair_ids: Int64[np.ndarray, " pairs"]
    meta: Mapping[str, MetaColumn]
    """By key, in the order of the data."""

    @property
    def nbytes(self) -> int:
        """What the arrays and values take, about."""
        values = sum(60 + 2 * len(value) for column in self.meta.values() for value in column.values)
        return self.pair_ids.nbytes + values + sum(column.codes.nbytes for column in self.meta.values())


def score_columns(session: Session, run: Run, source: str) -> ScoreColumns:
    """The numbers of a run by one source as they are stored now."""
    version = session.execute(_VERSION, {"run": run.id, "source": source}).scalar_one_or_none()
    place = ("scores", _server(session), run.id, run.created_at, source)
    return _scores.get(place, version, lambda: _read_scores(session, run.id, source))


def pair_columns(session: Session, dataset: Dataset) -> PairColumns:
    """Ids and meta fields of a data set's pairs."""
    place = ("pairs", _server(session), dataset.id, dataset.created_at)
    version = (dataset.content_hash, dataset.pair_count)
    return _pairs.get(place, version, lambda: (version, _read_pairs(session, dataset.id)))


def ordered(values: Float64[np.ndarray, " pairs"], descending: bool) -> Int64[np.ndarray, " pairs"]:
    """Places of the values from low to high, or from high to low; equal ones as they come, NaN last."""
    return np.argsort(-values if descending else values, kind="stable")


def meta_text(value: Any) -> str | None:
    """A value of `meta` as it is shown and asked for; None for one that is nothing."""
    if value is None or value == "" or value == [] or value == {}:
        return None
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        written = ", ".join(str(meta_text(item) or "") for item in value)
    elif isinstance(value, str):
        written = value
    else:
        written = json.dumps(value, ensure_ascii=False)
    # One line, as a select box and an address have it.
    return " ".join(written.split())[:MAX_META_CHARACTERS].strip() or None


# ------------------------------------------------------------------------------------------------- reading

_VERSION_OF_SOURCE = """
    jsonb_build_array(statistics.rule, statistics.final, jobs.resume_from, jobs.attempt)::text
"""
_VERSION = text(f"""
    SELECT {_VERSION_OF_SOURCE} FROM source_statistics AS statistics JOIN jobs USING (run_id)
    WHERE run_id = :run AND source = :source
""")  # noqa: S608 - only constants are put in
_SCORES = text(f"""
    SELECT
        (SELECT {_VERSION_OF_SOURCE} FROM source_statistics AS statistics JOIN jobs USING (run_id)
         WHERE run_id = :run AND source = :source),
        array_send(array_agg(pair_id)),
        {", ".join(f"array_send(array_agg(COALESCE({column}, 'NaN'::float8)))" for column in SCORE_COLUMNS)}
    FROM pair_scores WHERE run_id = :run AND source = :source
""")  # noqa: S608 - only constants are put in
"""Columns in PostgreSQL's binary form, which NumPy reads as it stands. The version comes from the same
statement, so that nothing is kept under the name of what it was not read from."""
_PAIRS = text("""
    SELECT array_send(array_agg(id ORDER BY id)), '[' || string_agg(meta::text, ',' ORDER BY id) || ']'
    FROM pairs WHERE dataset_id = :dataset
""")
_ARRAY_HEADER = 20
"""Bytes of a one-dimensional array before its elements: dimensions, flags, type, length, lower bound."""


def _read_scores(session: Session, run_id: int, source: str) -> tuple[Any, ScoreColumns]:
    version, ids, *columns = session.execute(_SCORES, {"run": run_id, "source": source}).one()
    pair_ids = _sent(ids, "i8")
    order = np.argsort(pair_ids, kind="stable")
    numbers = {name: _sent(column, "f8")[order] for name, column in zip(SCORE_COLUMNS, columns, strict=True)}
    return version, ScoreColumns(pair_ids[order], numbers)


def _sent(array: bytes | None, kind: str) -> np.ndarray:
    """The elements of a one-dimensional array without missing ones, as `array_send` writes it."""
    if array is None:
        return np.empty(0, dtype=kind)
    element = np.dtype([("length", ">i4"), ("value", f">{kind}")])
    return np.frombuffer(array, element, offset=_ARRAY_HEADER)["value"].astype(kind)


def _read_pairs(session: Session, dataset_id: int) -> PairColumns:
    ids, written = session.execute(_PAIRS, {"dataset": dataset_id}).one()
    rows: list[dict[str, Any]] = json.loads(written or "[]")
    used = Counter(key for row in rows for key in row)
    common = {key for key, _ in used.most_common(MAX_META_KEYS)}
    columns = {key: _meta_column([row.get(key) for row in rows]) for key in used if key in common}
    return PairColumns(_sent(ids, "i8"), {key: column for key, column in columns.items() if column.values})


def _meta_column(cells: Sequence[Any]) -> MetaColumn:
    written: dict[Any, str | None] = {}
    texts: list[str | None] = []
    numeric: dict[str, float] = {}
    for cell in cells:
        if isinstance(cell, list | dict):
            texts.append(meta_text(cell))
            continue
        known = (type(cell), cell)
        if known not in written:
            written[known] = shown = meta_text(cell)
            if shown is not None and isinstance(cell, int | float) and not isinstance(cell, bool):
                numeric[shown] = float(cell)
        texts.append(written[known])
    counts = Counter(value for value in texts if value is not None)
    values = sorted(counts, key=lambda value: (value not in numeric, numeric.get(value, 0.0), value))
    code = {value: number for number, value in enumerate(values)}
    codes = np.array([-1 if value is None else code[value] for value in texts], dtype=np.int32)
    return MetaColumn(values, codes, [counts[value] for value in values])


# ------------------------------------------------------------------------------------------------- keeping


@dataclass(slots=True)
class _Shelf(Generic[Kept]):
    """Things by their place, each with the version it was made of; those used longest ago go first."""

    _things: OrderedDict[tuple[Any, ...], tuple[Any, Kept, int]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, place: tuple[Any, ...], version: Any, read: Callable[[], tuple[Any, Kept]]) -> Kept:
        """The thing of this version, read if it is not there; `read` says which version it found."""
        with self._lock:
            if place in self._things and self._things[place][0] == version:
                self._things.move_to_end(place)
                return self._things[place][1]
        found, thing = read()
        with self._lock:
            self._things[place] = (found, thing, thing.nbytes)  # type: ignore[attr-defined] # both have it
            self._things.move_to_end(place)
            while len(self._things) > 1 and sum(size for *_, size in self._things.values()) > _HELD_BYTES:
                self._things.popitem(last=False)
        return thing


_scores: _Shelf[ScoreColumns] = _Shelf()
_pairs: _Shelf[PairColumns] = _Shelf()


def _server(session: Session) -> str:
    return str(session.get_bind().engine.url)
