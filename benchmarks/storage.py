"""Bytes a token, tokens a second in, milliseconds out: reward maps as blobs against a row a token.

Run by hand: `python benchmarks/storage.py`. Starts a PostgreSQL of its own with its usual guarantees,
stores the same responses both ways in interleaved rounds, and reads single ones back, queries and session
included. Every round stores a new run; "again" replaces one that is there. "COPY alone" is what this machine
allows: the same blobs, packed beforehand, into a table without any key. Only ratios taken in one run mean
anything. Hold: at most 12 B a token, at least 5 M tokens/s in, under 1 ms out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.db import migrate
from app.db.embedded import EmbeddedPostgres
from app.db.maps import PackedMap, pack, read_maps, write_chunk
from app.db.session import Database
from app.db.tables import Dataset, Pair, Run
from engine.types import RewardMap

ROW_TABLE = """
    CREATE TABLE token_rows (
        run_id bigint, pair_id bigint, side text, position int, token_id int, start int, "end" int,
        logprob real, reference_logprob real, entropy real, rank int, reward real,
        PRIMARY KEY (run_id, pair_id, side, position)
    )
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--responses", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=400, help="mean length of a response")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedPostgres(Path(folder))
        url = server.start()
        try:
            migrate.upgrade(url)
            database = Database.connect(url)
            compare(database, options.responses, options.tokens, options.rounds)
            database.dispose()
        finally:
            server.stop()


def compare(database: Database, responses: int, tokens: int, rounds: int) -> None:
    """Measure both ways, interleaved, and print the table."""
    maps = [response(index, tokens) for index in range(responses)]
    packed = pack(maps)
    total = sum(one.tokens for one in maps)
    with database.session() as session:
        session.execute(text(ROW_TABLE))
        columns = ", ".join(f"blob_{number} bytea STORAGE EXTERNAL" for number in range(7))
        session.execute(text(f"CREATE TABLE bare ({columns})"))
        run_id, pair_ids = world(session, responses)
    ways: dict[str, Callable[[int], object]] = {
        "rows": lambda new: write_rows(database, new, pair_ids, maps),
        "blobs": lambda new: write_blobs(database, new, pair_ids, maps),
        "again": lambda new: write_blobs(database, run_id, pair_ids, maps),
        "packing alone": lambda new: pack(maps),
        "COPY alone": lambda new: copy_alone(database, packed),
    }
    writing: dict[str, list[float]] = {way: [] for way in ways}
    write_blobs(database, run_id, pair_ids, maps)
    for _ in range(rounds):
        new = another_run(database, run_id)
        for way, write in ways.items():
            writing[way].append(timed(lambda write=write, new=new: write(new)))
        forget_run(database, new)
    write_rows(database, run_id, pair_ids, maps)
    keys = list(pair_ids)[:: max(1, responses // 100)]
    reading = {
        "blobs": [timed(lambda key=key: read_blob(database, run_id, pair_ids[key])) for key in keys],
        "rows": [timed(lambda key=key: read_rows(database, run_id, pair_ids[key])) for key in keys],
    }
    size = {
        "blobs": table_size(database, "reward_maps") + table_size(database, "reward_lanes"),
        "rows": table_size(database, "token_rows"),
    }
    blob_bytes = sum(len(blob) for row in packed for blob in blobs_of(row))
    print(f"{responses} responses, {total} tokens, 6 tracks and 1 source, {rounds} interleaved rounds\n")
    print(f"{'':>14} {'B/token':>8} {'on disk':>8} {'M tokens/s in':>14} {'ms out':>8}")
    for way in ways:
        sizes = f"{blob_bytes / total:8.1f}" if way == "blobs" else f"{'':8}"
        sizes += f" {size[way] / total:8.1f}" if way in size else f" {'':8}"
        out = f"{1000 * statistics.median(reading[way]):8.2f}" if way in reading else ""
        print(f"{way:>14} {sizes} {total / statistics.median(writing[way]) / 1e6:14.2f} {out}")


def response(index: int, tokens: int) -> RewardMap:
    """A response with the statistics of text under a language model."""
    random = np.random.default_rng(index)
    length = int(random.integers(tokens // 2, tokens * 3 // 2 + 1))
    ends = np.cumsum(random.integers(1, 8, length))
    logprobs = -random.exponential(1.5, length).astype(np.float32)
    reference = logprobs - random.normal(0, 0.1, length).astype(np.float32)
    return RewardMap(
        key=f"pair {index}",
        side="chosen",
        token_ids=random.integers(0, 50_000, length, dtype=np.int32),
        offsets=np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1).astype(np.int32),
        eos="</s>",
        prompt_tokens=50,
        truncated_prompt_tokens=0,
        rewards={"implicit": 0.1 * (logprobs - reference)},
        logprobs=logprobs,
        reference_logprobs=reference,
        entropies=random.exponential(1.0, length).astype(np.float32),
        ranks=np.minimum(random.geometric(0.4, length) - 1, 40_000).astype(np.int32),
        totals={"implicit": 0.0},
    )


def world(session: Session, pairs: int) -> tuple[int, dict[str, int]]:
    """A run, and the ids of so many pairs by their keys."""
    dataset = Dataset(
        name="benchmark",
        origin={},
        content_hash="",
        pair_count=pairs,
        response_count=pairs,
        annotated=False,
        has_token_rewards=False,
    )
    session.add(dataset)
    session.flush()
    rows = [
        Pair(dataset_id=dataset.id, position=i, key=f"pair {i}", prompt="p", chosen="c") for i in range(pairs)
    ]
    run = Run(kind="scoring", name="benchmark", request={}, dataset_id=dataset.id)
    session.add_all([run, *rows])
    session.flush()
    return run.id, {row.key: row.id for row in rows}


def another_run(database: Database, run_id: int) -> int:
    """The id of a new run of the same data set."""
    with database.session() as session:
        dataset_id = session.get_one(Run, run_id).dataset_id
        run = Run(kind="scoring", name="benchmark", request={}, dataset_id=dataset_id)
        session.add(run)
        session.flush()
        return run.id


def forget_run(database: Database, run_id: int) -> None:
    with database.session() as session:
        session.execute(text("DELETE FROM token_rows WHERE run_id = :run"), {"run": run_id})
        session.execute(text("DELETE FROM runs WHERE id = :run"), {"run": run_id})
        session.execute(text("TRUNCATE bare"))


def blobs_of(row: PackedMap) -> list[bytes]:
    tracks = [value for value in row.columns.values() if isinstance(value, bytes)]
    return [*tracks, *(track.rewards for track in row.tracks)]


def copy_alone(database: Database, packed: list[PackedMap]) -> None:
    with database.session() as session:
        connection = session.connection().connection.driver_connection
        assert connection is not None
        with connection.cursor() as cursor, cursor.copy("COPY bare FROM STDIN (FORMAT BINARY)") as copy:
            for row in packed:
                copy.write_row(blobs_of(row))


def write_blobs(database: Database, run_id: int, pair_ids: dict[str, int], maps: list[RewardMap]) -> None:
    with database.session() as session:
        write_chunk(session, run_id, pair_ids, maps)


def write_rows(database: Database, run_id: int, pair_ids: dict[str, int], maps: list[RewardMap]) -> None:
    with database.session() as session:
        connection = session.connection().connection.driver_connection
        assert connection is not None
        with connection.cursor() as cursor, cursor.copy("COPY token_rows FROM STDIN") as copy:
            for one in maps:
                tracks = zip(
                    one.token_ids.tolist(),
                    one.offsets.tolist(),
                    one.logprobs.tolist(),
                    one.reference_logprobs.tolist(),
                    one.entropies.tolist(),
                    one.ranks.tolist(),
                    one.rewards["implicit"].tolist(),
                    strict=True,
                )
                for position, (token, (start, end), *values) in enumerate(tracks):
                    copy.write_row(
                        (run_id, pair_ids[one.key], one.side, position, token, start, end, *values)
                    )


def read_blob(database: Database, run_id: int, pair_id: int) -> RewardMap:
    with database.session() as session:
        return read_maps(session, run_id, pair_id=pair_id, side="chosen")[0].map


def read_rows(database: Database, run_id: int, pair_id: int) -> np.ndarray:
    with database.session() as session:
        query = "SELECT * FROM token_rows WHERE run_id = :run AND pair_id = :pair ORDER BY position"
        rows = session.execute(text(query), {"run": run_id, "pair": pair_id}).all()
        return np.array([row[-5:] for row in rows], dtype=np.float32)


def table_size(database: Database, table: str) -> int:
    """Bytes on disk of the table and its indexes, once dead rows are gone."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"VACUUM FULL {table}"))
        return int(connection.execute(text(f"SELECT pg_total_relation_size('{table}')")).scalar_one())


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
