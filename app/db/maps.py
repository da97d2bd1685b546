"""Reward maps as compressed arrays: a blob a response and track, packed by chunks, unpacked one by one.

Numbers with a fraction are float16 times a power of two of the response's own, so that rewards of 1e-7 and
of 1e5 keep their 11 bits; NaN stays NaN. Integers are stored in as few bytes as the largest needs. Bytes of
equal rank lie together (first all low ones), and those of integers are compressed where that makes them
smaller; float16 has hardly anything to squeeze out (3% at 300 tokens, at five times the time).

    blob = width and codec (1 byte), binary exponent (1 byte, signed), payload
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple, cast

import numpy as np
import psycopg
import zstandard
from jaxtyping import Float16, Float32, Int32, Int64, UInt8
from psycopg import sql
from psycopg.rows import dict_row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from engine.types import RewardMap, Side

LARGEST_EXPONENT = 15
"""float16 reaches 2^16; every response is scaled to below 2^15."""
SMALLEST_SHIFT = -120
"""Numbers below 1e-31 would need more than the byte that the exponent has; they lose bits instead."""
COMPRESSED = 0x80
PLAIN_COLUMNS = ("side", "tokens", "eos", "prompt_tokens", "truncated_prompt_tokens")
FLOAT_TRACKS = ("logprobs", "reference_logprobs", "entropies")
PACKED_COLUMNS = (*PLAIN_COLUMNS, "token_ids", "offsets", *FLOAT_TRACKS, "ranks")
MAP_COLUMNS = ("id", "run_id", "pair_id", *PACKED_COLUMNS)
TRACK_COLUMNS = ("map_id", "source", "rewards", "total")
MAP_TYPES = ("int8", "int8", "int8", "text", "int8", "text", "int8", "int8", *["bytea"] * 6)
TRACK_TYPES = ("int8", "text", "bytea", "float8")
SELECT_MAPS = """
    SELECT maps.*, key, CASE side WHEN 'chosen' THEN chosen ELSE rejected END AS text, tracks.*
    FROM (
        SELECT * FROM reward_maps WHERE {conditions} ORDER BY pair_id, side LIMIT %s::bigint
    ) AS maps
    JOIN pairs ON pairs.id = pair_id
    CROSS JOIN LATERAL (
        SELECT array_agg(source) AS sources, array_agg(rewards) AS rewards, array_agg(total) AS totals
        FROM reward_lanes WHERE map_id = maps.id
    ) AS tracks
    ORDER BY pair_id, side
"""
_of_thread = threading.local()


class PackedTrack(NamedTuple):
    """The token rewards of one response by one source, as `RewardTrack` stores them."""

    source: str
    rewards: bytes
    total: float | None


class PackedMap(NamedTuple):
    """A reward map as `StoredMap` and `RewardTrack` store it."""

    columns: Mapping[str, Any]
    """At least `PACKED_COLUMNS`."""
    tracks: list[PackedTrack]


@dataclass(frozen=True, slots=True)
class MapView:
    """A stored reward map with the text that its offsets speak of."""

    pair_id: int
    text: str
    map: RewardMap


def pack(maps: Sequence[RewardMap]) -> list[PackedMap]:
    """What the tables store of each map."""
    columns: list[Sequence[Any]] = [
        *zip(*map(attrgetter(*PLAIN_COLUMNS), maps), strict=True),
        _pack_ints([one.token_ids for one in maps]),
        _pack_ints(_deltas([one.offsets for one in maps])),
        *(_pack_floats([getattr(one, name) for one in maps]) for name in FLOAT_TRACKS),
        _pack_ints([one.ranks for one in maps], has_missing=True),
    ]
    sources = {source for one in maps for source in one.rewards}
    rewards = {source: _pack_floats([one.rewards.get(source) for one in maps]) for source in sorted(sources)}
    return [
        PackedMap(
            dict(zip(PACKED_COLUMNS, row, strict=True)),
            [
                PackedTrack(source, cast(bytes, rewards[source][index]), _or_none(one.totals.get(source)))
                for source in one.rewards
            ],
        )
        for index, (one, row) in enumerate(zip(maps, zip(*columns, strict=True), strict=True))
    ]


def unpack(packed: PackedMap, key: str) -> RewardMap:
    """The map of the pair named `key`, as it was packed but for the rounding of float16."""
    stored, tokens = packed.columns, packed.columns["tokens"]
    ranks = stored["ranks"]
    return RewardMap(
        key=key,
        side=cast(Side, stored["side"]),
        token_ids=unpack_ints(stored["token_ids"], tokens),
        offsets=unpack_offsets(stored["offsets"], tokens),
        eos=stored["eos"],
        prompt_tokens=stored["prompt_tokens"],
        truncated_prompt_tokens=stored["truncated_prompt_tokens"],
        rewards={track.source: unpack_floats(track.rewards, tokens) for track in packed.tracks},
        logprobs=_maybe_floats(stored["logprobs"], tokens),
        reference_logprobs=_maybe_floats(stored["reference_logprobs"], tokens),
        entropies=_maybe_floats(stored["entropies"], tokens),
        ranks=None if ranks is None else unpack_ranks(ranks, tokens),
        totals={track.source: track.total for track in packed.tracks if track.total is not None},
    )


def unpack_floats(blob: bytes, tokens: int) -> Float32[np.ndarray, " response"]:
    """A track of numbers with a fraction, `tokens` long."""
    planes = _planes(blob, tokens, 2)
    halves: Float16[np.ndarray, " response"] = planes.T.copy().view("<f2")[:, 0]
    exponent = int.from_bytes(blob[1:2], "big", signed=True)
    return np.ldexp(halves.astype(np.float32), exponent)


def unpack_offsets(blob: bytes, tokens: int) -> Int32[np.ndarray, "response 2"]:
    """The code points [start, end) of `tokens` tokens."""
    return _from_deltas(unpack_ints(blob, 2 * tokens))


def unpack_ints(blob: bytes, count: int) -> Int32[np.ndarray, " count"]:
    """A track of `count` integers."""
    width = blob[0] & ~COMPRESSED
    wide = np.zeros((count, 4), dtype=np.uint8)
    wide[:, :width] = _planes(blob, count, width).T
    return wide.view("<i4")[:, 0]


def unpack_ranks(blob: bytes, count: int) -> Int32[np.ndarray, " count"]:
    """A track of `count` ranks; -1 where one is missing."""
    ranks = unpack_ints(blob, count).copy()
    width = blob[0] & ~COMPRESSED
    if width < 4:
        ranks[ranks == 256**width - 1] = -1
    return ranks


def write_chunk(
    session: Session, run_id: int, pair_ids: Mapping[str, int], maps: Sequence[RewardMap]
) -> dict[tuple[str, Side], int]:
    """Store the maps of a chunk; returns the id of each map by the key of its pair and the side.

    `pair_ids` maps the key of each pair to its id. What the run had stored for these pairs is replaced, so a
    chunk that comes twice is there once.
    """
    _delete(session, run_id, sorted({pair_ids[one.key] for one in maps}))
    ids = _new_ids(session, len(maps))
    packed = pack(maps)
    in_order = itemgetter(*PACKED_COLUMNS)
    _copy(
        session,
        "reward_maps",
        MAP_COLUMNS,
        MAP_TYPES,
        (
            (map_id, run_id, pair_ids[one.key], *in_order(row.columns))
            for map_id, one, row in zip(ids, maps, packed, strict=True)
        ),
    )
    _copy(
        session,
        "reward_lanes",
        TRACK_COLUMNS,
        TRACK_TYPES,
        ((map_id, *track) for map_id, row in zip(ids, packed, strict=True) for track in row.tracks),
    )
    return {(one.key, one.side): map_id for map_id, one in zip(ids, maps, strict=True)}


def read_maps(
    session: Session,
    run_id: int,
    *,
    pair_id: int | None = None,
    side: Side | None = None,
    after: tuple[int, str] | None = None,
    limit: int | None = None,
) -> list[MapView]:
    """Maps of a run in the order of its pairs, chosen before rejected; all, or those of a pair and a side.

    `after` is the pair's id and the side of the last map that is not wanted any more; None for `limit` means
    all. One query by the driver itself, since building entities took most of the time that reading takes.
    """
    wanted = {
        "run_id = %s": (run_id,),
        "pair_id = %s": None if pair_id is None else (pair_id,),
        "side = %s": None if side is None else (side,),
        "(pair_id, side) > (%s, %s)": after,
    }
    conditions = {condition: values for condition, values in wanted.items() if values is not None}
    query = SELECT_MAPS.format(conditions=" AND ".join(conditions))
    values = [value for values in conditions.values() for value in values]
    session.flush()
    with _connection(session, query) as connection:
        cursor = connection.cursor(binary=True, row_factory=dict_row)
        found = cursor.execute(query, [*values, limit]).fetchall()
    return [MapView(row["pair_id"], row["text"], unpack(_as_packed(row), row["key"])) for row in found]


# ------------------------------------------------------------------------------------------------- blobs


def _pack_floats(
    tracks: Sequence[Float32[np.ndarray, " response"] | None],
) -> list[bytes | None]:
    """One blob a track; None where there is no track."""
    present = [track for track in tracks if track is not None]
    if not present:
        return [None] * len(tracks)
    ends = np.cumsum([len(track) for track in present])
    values = np.concatenate(present).astype(np.float32, copy=False)
    exponents = _exponents(values, ends)
    scaled = np.ldexp(values, -np.repeat(exponents, np.diff(ends, prepend=0)))
    planes = scaled.astype("<f2").view(np.uint8).reshape(-1, 2).T.copy()
    return _blobs(tracks, planes, exponents)


def _exponents(values: Float32[np.ndarray, " tokens"], ends: Int64[np.ndarray, " maps"]) -> Any:
    """For each track the power of two that brings its largest number just below 2^LARGEST_EXPONENT."""
    starts = np.concatenate([[0], ends[:-1]])
    sizes = np.abs(values)
    sizes[~np.isfinite(sizes)] = 0
    largest = np.zeros(len(ends), dtype=np.float32)
    filled = ends > starts
    if filled.any():
        largest[filled] = np.maximum.reduceat(sizes, starts[filled])
    exponents = np.maximum(np.frexp(largest)[1] - LARGEST_EXPONENT, SMALLEST_SHIFT)
    return np.where(largest > 0, exponents, 0).astype(np.int32)


def _pack_ints(
    tracks: Sequence[Int32[np.ndarray, " count"] | None], *, has_missing: bool = False
) -> list[bytes | None]:
    """One blob a track of integers that are not negative; None where there is no track. Where -1 may stand
    for a missing one, it becomes the largest number of its bytes, which no other number takes."""
    present = [track for track in tracks if track is not None]
    if not present:
        return [None] * len(tracks)
    values = np.concatenate(present).astype("<i4", copy=False)
    largest = int(values.max(initial=0))
    width = max(1, ((largest + has_missing).bit_length() + 7) // 8)
    planes = np.ascontiguousarray(values).view(np.uint8).reshape(-1, 4)[:, :width].T.copy()
    return _blobs(tracks, planes, None)


def _blobs(
    tracks: Sequence[np.ndarray | None], planes: UInt8[np.ndarray, "width tokens"], exponents: Any
) -> list[bytes | None]:
    """Cut the planes of all tracks, one after the other, into a blob for each."""
    compress = zstandard.ZstdCompressor(level=1, write_checksum=False).compress
    rows = [row.tobytes() for row in planes]
    blobs: list[bytes | None] = []
    start = number = 0
    for track in tracks:
        if track is None:
            blobs.append(None)
            continue
        end = start + len(track)
        exponent = 0 if exponents is None else int(exponents[number])
        plain = b"".join([row[start:end] for row in rows])
        small = compress(plain) if exponents is None else plain
        header = len(rows) | (COMPRESSED if len(small) < len(plain) else 0)
        blobs.append(bytes((header, exponent & 0xFF)) + (small if header & COMPRESSED else plain))
        start, number = end, number + 1
    return blobs


def _planes(blob: bytes, count: int, width: int) -> UInt8[np.ndarray, "width count"]:
    payload = blob[2:]
    if blob[0] & COMPRESSED:
        payload = _decompressor().decompress(payload)
    return np.frombuffer(payload, dtype=np.uint8).reshape(width, count)


def _decompressor() -> zstandard.ZstdDecompressor:
    """This thread's own: making one costs more than most blobs, and two threads must not share one."""
    found: zstandard.ZstdDecompressor | None = getattr(_of_thread, "decompressor", None)
    if found is None:
        found = _of_thread.decompressor = zstandard.ZstdDecompressor()
    return found


def _deltas(offsets: Sequence[Int32[np.ndarray, "response 2"]]) -> list[Int32[np.ndarray, " twice"]]:
    """Offsets as what they mostly are, 0 and small: from the last end to this start (zigzag, since tokens of
    one code point share its offsets), and from start to end. All gaps of a response, then all its lengths."""
    if not offsets:
        return []
    starts, ends = np.concatenate(offsets).T.copy()
    cuts = np.cumsum([0, *map(len, offsets)])
    gaps = starts.copy()
    gaps[1:] -= ends[:-1]
    first = cuts[:-1][np.diff(cuts) > 0]
    gaps[first] = starts[first]
    zigzag, lengths = (gaps << 1) ^ (gaps >> 31), ends - starts
    return [np.concatenate([zigzag[start:end], lengths[start:end]]) for start, end in pairwise(cuts.tolist())]


def _from_deltas(flat: Int32[np.ndarray, " twice"]) -> Int32[np.ndarray, "response 2"]:
    zigzag, lengths = flat.reshape(2, -1)
    gaps = (zigzag >> 1) ^ -(zigzag & 1)
    ends = np.cumsum(gaps + lengths)
    offsets = np.empty((len(ends), 2), dtype=np.int32)
    offsets[:, 0], offsets[:, 1] = ends - lengths, ends
    return offsets


def _maybe_floats(blob: bytes | None, tokens: int) -> Float32[np.ndarray, " response"] | None:
    return None if blob is None else unpack_floats(blob, tokens)


def _or_none(total: float | None) -> float | None:
    return None if total is None or total != total else float(total)


# ------------------------------------------------------------------------------------------------ tables


def _as_packed(row: Mapping[str, Any]) -> PackedMap:
    """A row of `SELECT_MAPS`."""
    tracks = zip(row["sources"] or (), row["rewards"] or (), row["totals"] or (), strict=True)
    return PackedMap(row, [PackedTrack(*track) for track in tracks])


def _delete(session: Session, run_id: int, pair_ids: list[int]) -> None:
    statement = "DELETE FROM reward_maps WHERE run_id = %s AND pair_id = ANY(%s)"
    with _connection(session, statement) as connection:
        connection.execute(statement, (run_id, pair_ids))


def _new_ids(session: Session, count: int) -> list[int]:
    query = "SELECT nextval('reward_maps_id_seq') FROM generate_series(1, %s)"
    with _connection(session, query) as connection:
        return [row[0] for row in connection.execute(query, (count,), binary=True)]


def _copy(
    session: Session,
    table: str,
    columns: Sequence[str],
    types: Sequence[str],
    rows: Iterable[Sequence[Any]],
) -> None:
    """Stream rows into a table by binary COPY, in the session's transaction."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with (
        _connection(session, statement.as_string()) as connection,
        connection.cursor() as cursor,
        cursor.copy(statement) as copy,
    ):
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)


@contextmanager
def _connection(session: Session, statement: str) -> Iterator[psycopg.Connection[Any]]:
    """The driver's connection, in the session's transaction; its errors become SQLAlchemy's, like all."""
    try:
        yield cast("psycopg.Connection[Any]", session.connection().connection.driver_connection)
    except psycopg.Error as error:
        raise DBAPIError.instance(statement, None, error, psycopg.Error) from error
