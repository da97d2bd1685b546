"""Segments and pair scores of a run: derived from stored rewards and a rule, written, and written again.

A provisional cut uses what was known when a chunk came; the final one uses the statistics of the whole run.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64
from sqlalchemy import ColumnElement, Row, delete, select
from sqlalchemy.orm import Session

from app.db.bulk import copy_rows
from app.db.maps import unpack_floats, unpack_offsets
from app.db.tables import Pair, PairScore, RewardTrack, StoredMap, StoredSegment
from engine.conflict import PairScores, pair_scores
from engine.evaluation.localisation import LocalisationTally, token_labels
from engine.formats.annotations import span_value
from engine.masks import RunSegmentation, segment_run
from engine.rules import SegmentationRule
from engine.segmentation.statistics import RewardStatistics
from engine.types import SIDES, SIGN, RewardMap, Side, Span

BATCH_RESPONSES = 4000
"""Responses that are cut at a time: what bounds the memory of a new cut."""
SEGMENT_COLUMNS = (
    "map_id",
    "source",
    "start",
    "end",
    "run_id",
    "pair_id",
    "side",
    "polarity",
    "reward",
    "kept",
    "disputed",
)
_SCORE_COLUMNS = ("run_id", "source", "pair_id", *PairScores._fields)


@dataclass(frozen=True, slots=True)
class Responses:
    """Responses of one source laid end to end; the sides of a pair stand together."""

    map_ids: Sequence[int]
    pair_ids: Int64[np.ndarray, " rows"]
    sides: Sequence[str]
    ends_with_eos: Bool[np.ndarray, " rows"]
    totals: Float64[np.ndarray, " rows"]
    """Reward of the whole response; NaN where it has none."""
    rewards: Float32[np.ndarray, " tokens"]
    starts: Int64[np.ndarray, " rows+1"]
    texts: Sequence[str] | None = None
    offsets: Int32[np.ndarray, "tokens 2"] | None = None
    entropies: Float32[np.ndarray, " tokens"] | None = None

    def cut(self, rule: SegmentationRule, statistics: RewardStatistics) -> RunSegmentation:
        """All responses, cut."""
        return segment_run(
            self.rewards,
            self.starts,
            self.signs,
            rule,
            statistics,
            texts=self.texts,
            offsets=self.offsets,
            entropies=self.entropies,
            ends_with_eos=self.ends_with_eos,
        )

    @property
    def signs(self) -> np.ndarray:
        """z of every response."""
        return np.where(self.are_chosen, SIGN["chosen"], SIGN["rejected"]).astype(np.int8)

    @property
    def are_chosen(self) -> np.ndarray:
        """True where the response is the chosen one of its pair."""
        return np.array([side == "chosen" for side in self.sides], dtype=np.bool_)


def write_maps(
    session: Session,
    run_id: int,
    source: str,
    rule: SegmentationRule,
    statistics: RewardStatistics,
    pairs: Mapping[str, int],
    map_ids: Mapping[tuple[str, Side], int],
    maps: Sequence[RewardMap],
) -> None:
    """Cuts maps that were just stored, and writes their segments and the scores of their pairs.

    `pairs` has the id of each pair by its key, `map_ids` that of each map by key and side. What was written
    for these pairs before is replaced.
    """
    pair_ids = [pairs[one.key] for one in maps]
    texts = _texts(session, pair_ids) if rule.segmenter.kind.reads_text else None
    responses = Responses(
        map_ids=[map_ids[one.key, one.side] for one in maps],
        pair_ids=np.array(pair_ids, dtype=np.int64),
        sides=[one.side for one in maps],
        ends_with_eos=np.array([one.ends_with_eos for one in maps], dtype=np.bool_),
        totals=np.array([one.totals.get(source, np.nan) for one in maps], dtype=np.float64),
        rewards=_joined([one.rewards[source] for one in maps]),
        starts=_starts([one.tokens for one in maps]),
        texts=None if texts is None else [texts[pairs[one.key], one.side] for one in maps],
        offsets=None if texts is None else _joined([one.offsets for one in maps]),
        entropies=_joined([_entropies(one.entropies, one.tokens) for one in maps]),
    )
    _delete(session, StoredSegment, run_id, source, StoredSegment.map_id.in_(responses.map_ids))
    _delete(session, PairScore, run_id, source, PairScore.pair_id.in_(set(pair_ids)))
    _write(session, run_id, source, responses, responses.cut(rule, statistics))


def rewrite(
    session: Session, run_id: int, source: str, rule: SegmentationRule, statistics: RewardStatistics
) -> None:
    """Writes all segments and pair scores of a run and source again."""
    for table in (StoredSegment, PairScore):
        _delete(session, table, run_id, source)
    for responses in stored_responses(session, run_id, source, rule):
        _write(session, run_id, source, responses, responses.cut(rule, statistics))


def localisation(session: Session, run_id: int, source: str) -> dict[str, Any] | None:
    """How well low rewards find the labelled errors of a run; None where nothing is labelled both ways."""
    columns = (StoredMap.offsets, Pair.chosen_extras, Pair.rejected_extras)
    rows = itertools.chain.from_iterable(_batches(session, run_id, source, *columns))
    return _found((row, row.rewards) for row in rows)


def surprisal(session: Session, run_id: int) -> dict[str, Any] | None:
    """The same of the policy's own log-probabilities: the floor for every source."""
    query = (
        select(
            StoredMap.side,
            StoredMap.tokens,
            StoredMap.logprobs,
            StoredMap.offsets,
            Pair.chosen_extras,
            Pair.rejected_extras,
        )
        .join(Pair, Pair.id == StoredMap.pair_id)
        .where(StoredMap.run_id == run_id, StoredMap.logprobs.is_not(None))
        .execution_options(yield_per=BATCH_RESPONSES)
    )
    return _found((row, row.logprobs) for row in session.execute(query))


def _found(rows: Iterable[tuple[Row[Any], bytes]]) -> dict[str, Any] | None:
    """How well low values find labelled errors, of stored responses and tracks."""
    tally = LocalisationTally()
    for row, track in rows:
        spans = spans_of(getattr(row, f"{row.side}_extras"))
        if spans is not None:
            offsets = unpack_offsets(row.offsets, row.tokens)
            tally.add(unpack_floats(track, row.tokens), token_labels(spans, offsets))
    found = tally.result()
    if found.value is None:
        return None
    return {
        "auroc": found.value,
        "low": found.low,
        "high": found.high,
        "wrong_tokens": found.wrong,
        "tokens": found.wrong + found.right,
    }


def spans_of(extras: dict[str, Any] | None) -> tuple[Span, ...] | None:
    """The labelled spans that a stored response came with; None where nobody annotated it."""
    if extras is None or "spans" not in extras:
        return None
    return tuple(_span(*written) for written in extras["spans"])


# ----------------------------------------------------------------------------------------------- reading


def stored_responses(
    session: Session,
    run_id: int,
    source: str,
    rule: SegmentationRule,
    pair_ids: Collection[int] | None = None,
) -> Iterator[Responses]:
    """The stored rewards of a run, some thousand responses at a time, with what the rule asks for; of all
    pairs, or of those that are named."""
    needs_text, needs_entropies = rule.segmenter.kind.reads_text, rule.segmenter.kind.reads_entropies
    columns = [StoredMap.offsets, Pair.chosen, Pair.rejected] if needs_text else []
    columns += [StoredMap.entropies] if needs_entropies else []
    for batch in _batches(session, run_id, source, *columns, pair_ids=pair_ids):
        tracks = [unpack_floats(row.rewards, row.tokens) for row in batch]
        offsets = [unpack_offsets(row.offsets, row.tokens) for row in batch] if needs_text else None
        yield Responses(
            map_ids=[row.id for row in batch],
            pair_ids=np.array([row.pair_id for row in batch], dtype=np.int64),
            sides=[row.side for row in batch],
            ends_with_eos=np.array([row.eos is not None for row in batch], dtype=np.bool_),
            totals=np.array([np.nan if row.total is None else row.total for row in batch]),
            rewards=_joined(tracks),
            starts=_starts([len(track) for track in tracks]),
            texts=[getattr(row, row.side) for row in batch] if needs_text else None,
            offsets=None if offsets is None else _joined(offsets),
            entropies=_joined([_stored_entropies(row) for row in batch]) if needs_entropies else None,
        )


def _batches(
    session: Session, run_id: int, source: str, *columns: Any, pair_ids: Collection[int] | None = None
) -> Iterator[list[Row[Any]]]:
    """Rows of maps and their tracks of one source, in the order of pairs; no pair is split over batches."""
    query = (
        select(
            StoredMap.id,
            StoredMap.pair_id,
            StoredMap.side,
            StoredMap.tokens,
            StoredMap.eos,
            RewardTrack.rewards,
            RewardTrack.total,
            *columns,
        )
        .join(RewardTrack, RewardTrack.map_id == StoredMap.id)
        .where(StoredMap.run_id == run_id, RewardTrack.source == source)
        .order_by(StoredMap.pair_id, StoredMap.side)
        .limit(BATCH_RESPONSES)
    )
    if any(getattr(column, "class_", None) is Pair for column in columns):
        query = query.join(Pair, Pair.id == StoredMap.pair_id)
    if pair_ids is not None:
        query = query.where(StoredMap.pair_id.in_(pair_ids))
    last = 0
    while True:
        batch = list(session.execute(query.where(StoredMap.pair_id > last)))
        whole = len(batch) < BATCH_RESPONSES
        if not whole:
            # The other side of the last pair may be missing: it begins the next batch.
            batch = [row for row in batch if row.pair_id != batch[-1].pair_id]
        if batch:
            yield batch
            last = batch[-1].pair_id
        if whole:
            return


def _texts(session: Session, pair_ids: Sequence[int]) -> dict[tuple[int, str], str]:
    query = select(Pair.id, Pair.chosen, Pair.rejected).where(Pair.id.in_(set(pair_ids)))
    rows = session.execute(query).all()
    return {(row.id, side): getattr(row, side) for row in rows for side in SIDES}


def _stored_entropies(row: Row[Any]) -> np.ndarray:
    return _entropies(row.entropies and unpack_floats(row.entropies, row.tokens), row.tokens)


def _entropies(track: np.ndarray | None, tokens: int) -> np.ndarray:
    """The track, or one of missing values: a response without entropies is not cut by them."""
    return np.full(tokens, np.nan, dtype=np.float32) if track is None else track


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype=np.float32)


def _starts(lengths: Sequence[int]) -> Int64[np.ndarray, " rows+1"]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def _span(start: int, end: int, label: str, *value: float | None) -> Span:
    return Span(start, end, label, value[0] if value else span_value(label))


# ----------------------------------------------------------------------------------------------- writing


def _delete(
    session: Session,
    table: type[StoredSegment] | type[PairScore],
    run_id: int,
    source: str,
    *conditions: ColumnElement[bool],
) -> None:
    statement = delete(table).where(table.run_id == run_id, table.source == source, *conditions)
    session.execute(statement.execution_options(synchronize_session=False))


def _write(session: Session, run_id: int, source: str, responses: Responses, cut: RunSegmentation) -> None:
    copy_rows(session, "segments", SEGMENT_COLUMNS, _segment_rows(run_id, source, responses, cut))
    copy_rows(session, "pair_scores", _SCORE_COLUMNS, _score_rows(run_id, source, responses, cut))


def _segment_rows(
    run_id: int, source: str, responses: Responses, cut: RunSegmentation
) -> Iterator[tuple[Any, ...]]:
    found = cut.segments
    row_of = np.repeat(np.arange(len(responses.sides)), np.diff(found.rows)).tolist()
    pair_ids = responses.pair_ids.tolist()
    columns = zip(
        row_of,
        found.start.tolist(),
        found.end.tolist(),
        cut.polarity.tolist(),
        _nullable(found.reward),
        cut.kept.tolist(),
        cut.disputed.tolist(),
        strict=True,
    )
    for row, start, end, polarity, reward, kept, disputed in columns:
        side = responses.sides[row]
        yield (
            responses.map_ids[row],
            source,
            start,
            end,
            run_id,
            pair_ids[row],
            side,
            polarity,
            reward,
            kept,
            disputed,
        )


def _score_rows(
    run_id: int, source: str, responses: Responses, cut: RunSegmentation
) -> Iterator[tuple[Any, ...]]:
    pair_ids, pair_of = np.unique(responses.pair_ids, return_inverse=True)
    scores = pair_scores(cut, responses.are_chosen, responses.totals, pair_of)
    for numbers in zip(pair_ids.tolist(), *map(_nullable, scores), strict=True):
        yield (run_id, source, *numbers)


def _nullable(values: np.ndarray) -> list[float | None]:
    """The numbers as a table has them: NULL where one is NaN."""
    return [None if value != value else value for value in values.tolist()]
