"""What the page of a data set of 100,000 pairs costs: its table, histograms and conflict matrix.

    python benchmarks/pairs_table.py [--pairs 100000] [--requests 40] [--data-dir FOLDER]

Starts a PostgreSQL of its own with a data set whose numbers are made up, scored by three sources, and asks
the application for its pages in this process: what is measured is the whole answer, from the request to the
last byte, with the queries. Hold: p95 under 100 ms. With --data-dir the data base is kept and used again.
"""

from __future__ import annotations

import argparse
import html
import random
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from starlette.testclient import TestClient
from support.answers import analyse, measure, scratch_database, signed_in

from app.db.bulk import copy_rows
from app.db.maps import PACKED_COLUMNS, pack
from app.db.session import Database
from app.db.tables import Dataset, Job, Run, SourceStatistics
from app.services.datasets import datasets
from app.services.scorings.cuts import SEGMENT_COLUMNS
from engine.rules import SegmentationRule
from engine.segmentation.statistics import RewardStatistics
from engine.types import PreferencePair, Response, RewardMap

SOURCES = ("implicit", "rm_prefix", "spans")
SIDES = ("chosen", "rejected")
SEGMENTS = 4
"""Of a response, for each source."""
TOKENS = 48
TEXT = """
    the reward of a token says where an answer turns and bold claims are often wrong but sums copies facts
    hold while capitals rivers dates names numbers steps proofs tests lights houses gardens winters
"""
WORDS = TEXT.split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=40, help="of each kind")
    parser.add_argument("--data-dir", type=Path, help="keeps the data base here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.data_dir or Path(scratch)
        with scratch_database(folder) as database:
            run_id, dataset_id = world(database, options.pairs)
            with signed_in(folder, database) as client:
                compare(client, dataset_id, run_id, options.requests)


def compare(client: TestClient, dataset_id: int, run_id: int, requests: int) -> None:
    """Asks for every kind of answer and prints a line for each."""
    page, api = f"/datasets/{dataset_id}", f"/api/v1/datasets/{dataset_id}"
    brushed = "min_margin=0.2&max_margin=0.9&min_tokens=60"
    run = f"run={run_id}"
    asked = {
        "page as it opens": page,
        "page sorted by margin": f"{page}?{run}&sort=margin",
        "page brushed": f"{page}?{run}&sort=conflict&{brushed}",
        "page of a cell of the matrix": f"{page}?{run}&source=rm_prefix&against=implicit&relation=contradict",
        "page brushed, of one meta value, by another": f"{page}?{run}&{brushed}&meta.part=adversarial"
        "&sort=meta.annotator",
        "page of a word in nearly all pairs": f"{page}?{run}&q=lights",
        "page of a word in one pair": f"{page}?{run}&q=77777",
        "page of what no word begins with: ights": f"{page}?{run}&q=ights",
        "page of what is nowhere: qqqqzzz": f"{page}?{run}&q=qqqqzzz",
        "page of no pair": f"{page}?{run}&min_margin=99",
        "what a brush draws anew": f"{page}/explorer?{run}&{brushed}",
        "histograms as JSON, brushed": f"{api}/histograms?run_id={run_id}&{brushed}",
        "conflict matrix as JSON": f"{api}/conflicts?run_id={run_id}",
        "50 pairs as JSON, brushed": f"{api}/pairs?run_id={run_id}&sort=conflict&{brushed}",
    }
    measure(client, asked, requests)
    deep = follow(client, f"{page}?{run}&sort=conflict&rows=200", 20)
    print(f"20 pages of 200 on: {np.median(deep):.1f} median, {np.quantile(deep, 0.95):.1f} p95")


def follow(client: TestClient, address: str, pages: int) -> list[float]:
    """Milliseconds of each of the next pages."""
    taken = []
    for _ in range(pages):
        started = time.perf_counter()
        answer = client.get(address)
        taken.append(1000 * (time.perf_counter() - started))
        following = re.search(r'href="([^"]*)" rel="next"', answer.text)
        if following is None:
            break
        address = html.unescape(following.group(1))
    return taken


# --------------------------------------------------------------------------------------------- what is shown


def world(database: Database, count: int) -> tuple[int, int]:
    """Run and data set of `count` pairs; those of the folder, if it has them."""
    name = f"benchmark of {count} pairs"
    with database.session() as session:
        known = session.execute(
            select(Run.id, Run.dataset_id)
            .join(Dataset, Run.dataset_id == Dataset.id)
            .where(Dataset.name == name)
        ).first()
        if known is not None:
            return known.id, known.dataset_id
        dataset = datasets.import_rows(session, rows(count), name=name, origin={"kind": "upload"})
        run = Run(kind="scoring", name=name, dataset_id=dataset.id, request=request(name))
        run.job = Job(status="succeeded", resume_from=count, total=count, unit="pairs", attempt=1)
        session.add(run)
        session.flush()
        rule = SegmentationRule().model_dump(mode="json")
        statistics = RewardStatistics()
        statistics.add(np.random.default_rng(0).normal(size=10_000).astype(np.float32))
        for source in SOURCES:
            sketch = statistics.to_dict()
            session.add(SourceStatistics(run_id=run.id, source=source, rule=rule, sketch=sketch, final=True))
        session.flush()
        fill(session, run.id, dataset.id)
        found = run.id, dataset.id
    analyse(database)
    return found


def rows(count: int) -> Iterator[PreferencePair]:
    """Pairs of `TOKENS` words a side."""
    dice = random.Random(0)

    def words(number: int) -> str:
        return " ".join(dice.choices(WORDS, k=number))

    for number in range(count):
        yield PreferencePair(
            f"pair-{number}",
            f"Question {number}: {words(12)}?",
            Response(words(TOKENS)),
            Response(words(TOKENS)),
            meta={
                "part": dice.choice(("in_distribution", "adversarial")),
                "clauses": dice.randrange(1, 9),
                "annotator": f"person {dice.randrange(40)}",
            },
        )


def request(name: str) -> dict[str, object]:
    """What a scoring run keeps of what was asked."""
    return {"dataset_name": name, "sources": [{"name": source} for source in SOURCES]}


def fill(session: Session, run_id: int, dataset_id: int) -> None:
    """Reward maps, segments and pair scores of all pairs, with numbers that are made up."""
    dice = np.random.default_rng(1)
    pair_ids = list(
        session.scalars(text("SELECT id FROM pairs WHERE dataset_id = :id ORDER BY id"), {"id": dataset_id})
    )
    ends = np.cumsum(np.full(TOKENS, 5))
    blank = RewardMap(
        key="",
        side="chosen",
        token_ids=np.arange(TOKENS, dtype=np.int32),
        offsets=np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1).astype(np.int32),
        eos=None,
        prompt_tokens=12,
        truncated_prompt_tokens=0,
        rewards={source: dice.normal(size=TOKENS).astype(np.float32) for source in SOURCES},
    )
    [packed] = pack([blank])
    columns = [name for name in PACKED_COLUMNS if name != "side"]
    stored = [packed.columns[name] for name in columns]
    copy_rows(
        session,
        "reward_maps",
        ("run_id", "pair_id", "side", *columns),
        ((run_id, pair_id, side, *stored) for pair_id in pair_ids for side in SIDES),
    )
    maps = session.execute(
        text("SELECT id, pair_id, side FROM reward_maps WHERE run_id = :run ORDER BY id"), {"run": run_id}
    ).all()
    for source in SOURCES:
        rewards = dice.normal(size=(len(maps), SEGMENTS)).round(4).tolist()
        width = TOKENS // SEGMENTS
        cuts = [(n * width, (n + 1) * width) for n in range(SEGMENTS)]
        copy_rows(
            session,
            "segments",
            SEGMENT_COLUMNS,
            (
                (
                    row.id,
                    source,
                    *cut,
                    run_id,
                    row.pair_id,
                    row.side,
                    1 if reward > 0 else -1,
                    reward,
                    reward > 0,
                    False,
                )
                for row, values in zip(maps, rewards, strict=True)
                for cut, reward in zip(cuts, values, strict=True)
            ),
        )
        count = len(pair_ids)
        columns_of = zip(
            pair_ids,
            dice.normal(0.3, 1, count).tolist(),
            dice.normal(-2, 0.5, count).tolist(),
            dice.normal(2, 0.5, count).tolist(),
            dice.integers(0, 20, count).tolist(),
            dice.beta(2, 3, count).tolist(),
            dice.integers(20, 2 * TOKENS, count).tolist(),
            strict=True,
        )
        columns = [
            "run_id",
            "source",
            "pair_id",
            "margin",
            "min_reward",
            "max_reward",
            "pivots",
            "conflict",
            "tokens",
        ]
        copy_rows(session, "pair_scores", columns, ((run_id, source, *row) for row in columns_of))


if __name__ == "__main__":
    main()
