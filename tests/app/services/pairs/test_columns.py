"""The arrays behind the table of pairs: as the data base has the numbers, and never older than they are."""

from __future__ import annotations

import math

import numpy as np
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.db.tables import PairScore, Run
from app.services.datasets import datasets
from app.services.pairs import columns as pair_columns
from app.services.pairs.columns import SCORE_COLUMNS, score_columns
from app.services.scorings import scorings
from app.settings import Settings
from engine.rules import SegmentationRule
from engine.segmentation.segmenters.fixed import Fixed
from engine.types import PreferencePair, Response
from tests.app import factories


def stored(session: Session, run: Run, column: str) -> list[float]:
    query = select(getattr(PairScore, column)).where(PairScore.run_id == run.id).order_by(PairScore.pair_id)
    return [math.nan if value is None else float(value) for value in session.scalars(query)]


def test_columns_are_what_is_stored_with_nan_where_nothing_is(session: Session, settings: Settings) -> None:
    run = factories.make_scored_run(session, settings, 5)
    last = max(session.scalars(select(PairScore.pair_id)))
    session.execute(update(PairScore).where(PairScore.pair_id == last).values(margin=None, conflict=None))
    columns = score_columns(session, run, "implicit")
    for name in SCORE_COLUMNS:
        np.testing.assert_array_equal(columns.numbers[name], stored(session, run, name))
    assert math.isnan(columns.numbers["margin"][-1])
    assert list(columns.pair_ids) == sorted(session.scalars(select(PairScore.pair_id)))


def test_another_chunk_and_another_rule_are_seen_at_once(session: Session, settings: Settings) -> None:
    run = factories.make_run(session, settings, factories.make_dataset(session, 4))
    assert len(score_columns(session, run, "implicit").pair_ids) == 0
    attempt = factories.claim(session, run)
    for start in (0, 2):
        scorings.store(session, run, attempt, factories.make_chunk(session, run, start, start + 2))
        assert len(score_columns(session, run, "implicit").pair_ids) == start + 2
    scorings.finish(session, run, {"notes": []})
    before = score_columns(session, run, "implicit")
    assert score_columns(session, run, "implicit") is before, "nothing has changed, so nothing is read again"
    scorings.recut(session, run.id, "implicit", SegmentationRule(segmenter=Fixed(length=1)))
    after = score_columns(session, run, "implicit")
    np.testing.assert_array_equal(after.numbers["conflict"], stored(session, run, "conflict"))
    assert list(after.numbers["pivots"]) != list(before.numbers["pivots"])


def test_orders_put_what_is_missing_last_and_keep_equal_ones_as_they_come() -> None:
    values = np.array([2.0, math.nan, 1.0, 2.0, 3.0])
    assert pair_columns.ordered(values, descending=False).tolist() == [2, 0, 3, 4, 1]
    assert pair_columns.ordered(values, descending=True).tolist() == [4, 0, 3, 2, 1]


def test_meta_fields_are_columns_with_numbers_in_their_order(session: Session) -> None:
    metas = [
        {"hops": 10, "skills": ["copy", "sum"], "note": " two\nlines "},
        {"hops": 9, "ok": True, "deep": {"a": 1}},
        {"hops": "many", "skills": [], "note": None},
        {"hops": 9.5, "skills": ["copy"]},
    ]
    rows = [
        PreferencePair(f"pair-{number}", "?", Response("yes"), Response("no"), meta=meta)
        for number, meta in enumerate(metas)
    ]
    dataset = factories.make_dataset(session, rows)
    meta = pair_columns.pair_columns(session, dataset).meta
    assert list(meta["hops"].values) == ["9", "9.5", "10", "many"]
    assert meta["hops"].codes.tolist() == [2, 0, 3, 1]
    assert (list(meta["skills"].values), meta["skills"].codes.tolist()) == (
        ["copy", "copy, sum"],
        [1, -1, -1, 0],
    )
    assert list(meta["note"].values) == ["two lines"]
    assert list(meta["ok"].values) == ["true"]
    assert list(meta["deep"].values) == ['{"a": 1}']
    assert datasets.get_dataset(session, dataset.id).pair_count == len(metas)
