"""What people say of stretches of responses: right, wrong or unsure, with undo, and how sources agree.

A label is of characters, so a new cut leaves it where it is. Labels are painted: of a character only the last
word counts, and what a new label covers of older ones goes, while the rest of them stays.

Rows are never changed but in `removed_at`, so that actions can be undone and done again. One action is all
rows of one `created_at`; what takes labels away leaves a row that says nothing (`CLEARED`) and never counts.

    counts now            removed_at is null
    painted over          removed_at is the created_at of a later action
    says nothing          removed_at is a moment after created_at
    undone                removed_at = created_at; a new action forgets what was undone
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Literal, cast, get_args

import numpy as np
from jaxtyping import Int32
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, Select, and_, delete, func, select, update
from sqlalchemy.orm import Session

from app.db.maps import unpack_floats, unpack_offsets
from app.db.tables import Pair, RewardTrack, Run, SegmentLabel, SourceStatistics, StoredMap
from app.errors import Conflict, Invalid, NotFound, Problem
from app.services.datasets.datasets import get_dataset, get_pair
from app.services.paging import DEFAULT_LIMIT, Page, decode_cursor, encode_cursor, page_limit
from app.services.scorings.sources import scoring_run, source_names
from engine.evaluation.localisation import Auroc, LocalisationTally, judged_labels, stretch_of
from engine.types import SIDES, Side, Span

Verdict = Literal["right", "wrong", "unsure"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
VALUES: dict[Verdict, float | None] = {"right": 1.0, "wrong": -1.0, "unsure": None}
"""What a verdict is worth as a span: `unsure` says nothing of the tokens."""
CLEARED = "cleared"
"""The verdict of a row that only takes others away."""
_MOMENT = timedelta(microseconds=1)
_COUNTS = SegmentLabel.removed_at.is_(None)
_UNDONE = SegmentLabel.removed_at == SegmentLabel.created_at


class Label(BaseModel):
    """A label that counts, with the words that it covers."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)
    id: int
    pair_id: int
    pair_key: str
    side: Side
    start: int
    """Code points [start, end) of the response."""
    end: int
    verdict: Verdict
    text: str
    created_at: datetime

    @property
    def span(self) -> Span:
        """The label as the data would bring it."""
        return Span(self.start, self.end, self.verdict, VALUES[self.verdict])


@dataclass(frozen=True, slots=True)
class History:
    """What can be undone and done again."""

    can_undo: bool
    can_redo: bool


@dataclass(frozen=True, slots=True)
class Counts:
    """How many labels a data set has."""

    pairs: int
    """Pairs with any label."""
    right: int
    wrong: int
    unsure: int

    @property
    def total(self) -> int:
        return self.right + self.wrong + self.unsure


@dataclass(frozen=True, slots=True)
class SourceAgreement:
    """How well low rewards of a source find what people called wrong."""

    source: str
    found: Auroc


# ------------------------------------------------------------------------------------------------- one pair


def labels_of(session: Session, pair_id: int) -> list[Label]:
    """The labels of a pair that count, chosen first, in the order of the text. Raises NotFound."""
    get_pair(session, pair_id)
    order = (SegmentLabel.side, SegmentLabel.start)
    return [
        _label(*row) for row in session.execute(_counting(SegmentLabel.pair_id == pair_id).order_by(*order))
    ]


def tokens_of(label: Label, offsets: Int32[np.ndarray, "response 2"]) -> tuple[int, int] | None:
    """Tokens [first, end) of a response that a label is about: those with any character of it; None where
    there is none. Offsets are those of a reward map."""
    return stretch_of(label.span, offsets)


def history_of(session: Session, pair_id: int) -> History:
    """Whether there is anything to undo, and to do again."""
    return History(_last_done(session, pair_id) is not None, _first_undone(session, pair_id) is not None)


def paint(
    session: Session, pair_id: int, side: Side, start: int, end: int, verdict: Verdict | None
) -> list[Label]:
    """Says `verdict` of the characters [start, end) of a response, or (None) takes back what was said.

    Returns the labels of the pair. Raises NotFound (pair), Invalid (a side or characters that it lacks).
    """
    pair = _held_pair(session, pair_id)
    _check(pair, side, start, end)
    under = _overlapping(session, pair_id, side, start, end)
    same = [row for row in under if (row.start, row.end, row.verdict) == (start, end, verdict)]
    if same or (verdict is None and not under):
        return labels_of(session, pair_id)  # said already: nothing that one would want to undo
    session.execute(delete(SegmentLabel).where(SegmentLabel.pair_id == pair_id, _UNDONE))
    now = _moment(session, pair_id)

    def say(first: int, last: int, word: str) -> None:
        label = SegmentLabel(pair_id=pair_id, side=side, start=first, end=last, verdict=word, created_at=now)
        label.removed_at = _when_it_counts(label)
        session.add(label)

    for row in under:
        row.removed_at = now
        if row.start < start:
            say(row.start, start, row.verdict)
        if row.end > end:
            say(end, row.end, row.verdict)
    say(start, end, verdict or CLEARED)
    session.flush()
    return labels_of(session, pair_id)


def remove(session: Session, pair_id: int, label_id: int) -> list[Label]:
    """Takes one label back; the labels that are left. Raises NotFound for one that does not count."""
    row = session.get(SegmentLabel, label_id)
    if row is None or row.pair_id != pair_id or row.removed_at is not None:
        raise NotFound(f"Pair {pair_id} has no label {label_id}; the list of its labels shows those it has.")
    return paint(session, pair_id, cast(Side, row.side), row.start, row.end, None)


def undo(session: Session, pair_id: int) -> list[Label]:
    """Takes the last action on the pair back; the labels as they were before. Raises NotFound, Conflict."""
    _held_pair(session, pair_id)
    last = _last_done(session, pair_id)
    if last is None:
        raise Conflict(f"There is nothing to undo on pair {pair_id}.", code="nothing_to_undo")
    painted_over = and_(
        SegmentLabel.pair_id == pair_id,
        SegmentLabel.created_at < last,
        SegmentLabel.removed_at == last,
        SegmentLabel.verdict != CLEARED,
    )
    _set_removed(session, painted_over, None)
    _set_removed(session, and_(SegmentLabel.pair_id == pair_id, SegmentLabel.created_at == last), last)
    return labels_of(session, pair_id)


def redo(session: Session, pair_id: int) -> list[Label]:
    """Does what was undone last again; the labels after it. Raises NotFound, Conflict."""
    _held_pair(session, pair_id)
    first = _first_undone(session, pair_id)
    if first is None:
        raise Conflict(f"There is nothing to do again on pair {pair_id}.", code="nothing_to_redo")
    action = list(
        session.scalars(
            select(SegmentLabel).where(SegmentLabel.pair_id == pair_id, SegmentLabel.created_at == first)
        )
    )
    for painted in action:
        for row in _overlapping(session, pair_id, cast(Side, painted.side), painted.start, painted.end):
            row.removed_at = first
    session.flush()
    for painted in action:
        painted.removed_at = _when_it_counts(painted)
    session.flush()
    return labels_of(session, pair_id)


# --------------------------------------------------------------------------------------------- a data set


def list_labels(
    session: Session,
    dataset_id: int,
    *,
    verdict: Verdict | None = None,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[Label]:
    """The labels of a data set that count, newest first. Raises NotFound, Invalid (cursor)."""
    get_dataset(session, dataset_id)
    query = _counting(Pair.dataset_id == dataset_id)
    if verdict is not None:
        query = query.where(SegmentLabel.verdict == verdict)
    if cursor is not None:
        query = query.where(SegmentLabel.id < decode_cursor(cursor, [int])[0])
    found = session.execute(query.order_by(SegmentLabel.id.desc()).limit(page_limit(limit) + 1)).all()
    labels = [_label(*row) for row in found]
    more = len(labels) > limit
    return Page(labels[:limit], encode_cursor(labels[limit - 1].id) if more else None)


def counts_of(session: Session, dataset_id: int) -> Counts:
    """How many labels of a data set count."""
    return _census(session, dataset_id)[0]


def agreement(session: Session, run_id: int) -> list[SourceAgreement]:
    """Of every source of a scoring run, in the order of the request: the AUROC of finding what people called
    wrong by low rewards, over labelled tokens only. Raises NotFound.

    Reads labelled pairs alone, and of a run that is over only once: until a label changes.
    """
    run = scoring_run(session, run_id)
    assert run.dataset_id is not None, "a scoring run has a data set"
    counts, digest = _census(session, run.dataset_id)
    names = source_names(run)
    if not counts.right and not counts.wrong:
        return [SourceAgreement(name, Auroc(None, None, None, 0, 0)) for name in names]
    key = (str(session.get_bind().engine.url), run.id, run.created_at)
    with _remembered_lock:
        known = _remembered.get(key)
        if known is not None and known[0] == digest:
            _remembered.move_to_end(key)
            return known[1]
    found = _measured(session, run, names)
    if _is_final(session, run):
        with _remembered_lock:
            _remembered[key] = (digest, found)
            while len(_remembered) > _REMEMBERED_RUNS:
                _remembered.popitem(last=False)
    return found


_remembered: OrderedDict[tuple[str, int, datetime], tuple[str, list[SourceAgreement]]] = OrderedDict()
"""Agreement of runs that are over, with a digest of the labels that it was measured against."""
_remembered_lock = Lock()
_REMEMBERED_RUNS = 64
_PAIRS_AT_A_TIME = 500


def _measured(session: Session, run: Run, names: Sequence[str]) -> list[SourceAgreement]:
    said: dict[tuple[int, str], list[Span]] = {}
    for label in session.execute(_counting(Pair.dataset_id == run.dataset_id)):
        one = _label(*label)
        said.setdefault((one.pair_id, one.side), []).append(one.span)
    tallies = {name: LocalisationTally() for name in names}
    pair_ids = sorted({pair_id for pair_id, _ in said})
    for first in range(0, len(pair_ids), _PAIRS_AT_A_TIME):
        query = (
            select(
                StoredMap.pair_id,
                StoredMap.side,
                StoredMap.tokens,
                StoredMap.offsets,
                RewardTrack.source,
                RewardTrack.rewards,
            )
            .join(RewardTrack, RewardTrack.map_id == StoredMap.id)
            .where(
                StoredMap.run_id == run.id,
                StoredMap.pair_id.in_(pair_ids[first : first + _PAIRS_AT_A_TIME]),
            )
        )
        for row in session.execute(query):
            spans = said.get((row.pair_id, row.side))
            if spans and row.source in tallies:
                truth = judged_labels(spans, unpack_offsets(row.offsets, row.tokens))
                tallies[row.source].add(unpack_floats(row.rewards, row.tokens), truth)
    return [SourceAgreement(name, tally.result()) for name, tally in tallies.items()]


def _is_final(session: Session, run: Run) -> bool:
    query = select(func.bool_and(SourceStatistics.final)).where(SourceStatistics.run_id == run.id)
    return bool(session.scalar(query))


def _census(session: Session, dataset_id: int) -> tuple[Counts, str]:
    """The counts, and a digest that changes whenever a label comes or goes (rows themselves never change)."""
    columns: list[Any] = [
        func.count().filter(SegmentLabel.verdict == verdict).label(verdict) for verdict in VERDICTS
    ]
    query = (
        select(
            func.count(SegmentLabel.pair_id.distinct()).label("pairs"),
            *columns,
            func.coalesce(func.sum(func.hashint8extended(SegmentLabel.id, 0)), 0).label("digest"),
        )
        .join(Pair, Pair.id == SegmentLabel.pair_id)
        .where(Pair.dataset_id == dataset_id, _COUNTS)
    )
    row = session.execute(query).one()
    return Counts(row.pairs, row.right, row.wrong, row.unsure), f"{row.digest}"


# ------------------------------------------------------------------------------------------------ the rows


def _counting(*conditions: ColumnElement[bool]) -> Select[Any, Any, Any, Any]:
    joined = select(SegmentLabel, Pair.key, Pair.chosen, Pair.rejected)
    return joined.join(Pair, Pair.id == SegmentLabel.pair_id).where(_COUNTS, *conditions)


def _label(row: SegmentLabel, key: str, chosen: str | None, rejected: str | None) -> Label:
    text = (chosen if row.side == "chosen" else rejected) or ""
    return Label(
        id=row.id,
        pair_id=row.pair_id,
        pair_key=key,
        side=cast(Side, row.side),
        start=row.start,
        end=row.end,
        verdict=cast(Verdict, row.verdict),
        text=text[row.start : row.end],
        created_at=row.created_at,
    )


def _held_pair(session: Session, pair_id: int) -> Pair:
    """The pair, locked: two people who label it take turns. Raises NotFound."""
    lock = select(Pair.id).where(Pair.id == pair_id).with_for_update(key_share=True)
    session.execute(lock)
    return get_pair(session, pair_id)


def _check(pair: Pair, side: Side, start: int, end: int) -> None:
    text: str | None = getattr(pair, side) if side in SIDES else None
    if text is None:
        raise Invalid(
            f"Pair {pair.id} has no {side} response; label the other one.",
            errors=[Problem(("body", "side"), "is a response that the pair lacks")],
        )
    if not 0 <= start < end <= len(text):
        raise Invalid(
            f"The {side} response has the characters 0 to {len(text)}, and [{start}, {end}) is no stretch of "
            "it; a label covers one character at least.",
            errors=[Problem(("body", "end"), f"must be above `start` and at most {len(text)}")],
        )


def _overlapping(session: Session, pair_id: int, side: Side, start: int, end: int) -> list[SegmentLabel]:
    """The rows of now that share a character with [start, end)."""
    query = select(SegmentLabel).where(
        SegmentLabel.pair_id == pair_id,
        SegmentLabel.side == side,
        SegmentLabel.removed_at.is_(None),
        SegmentLabel.start < end,
        SegmentLabel.end > start,
    )
    return list(session.scalars(query.execution_options(populate_existing=True)))


def _when_it_counts(label: SegmentLabel) -> datetime | None:
    """`removed_at` of a row whose action is done, and over which nothing was painted."""
    return label.created_at + _MOMENT if label.verdict == CLEARED else None


def _moment(session: Session, pair_id: int) -> datetime:
    """Now, later than any action on the pair, whatever the clock says."""
    now: datetime = session.scalars(select(func.clock_timestamp())).one()
    last = session.scalar(select(func.max(SegmentLabel.created_at)).where(SegmentLabel.pair_id == pair_id))
    return now if last is None or now > last else last + _MOMENT


def _last_done(session: Session, pair_id: int) -> datetime | None:
    done = SegmentLabel.removed_at.is_distinct_from(SegmentLabel.created_at)
    query = select(func.max(SegmentLabel.created_at)).where(SegmentLabel.pair_id == pair_id, done)
    return session.scalar(query)


def _first_undone(session: Session, pair_id: int) -> datetime | None:
    query = select(func.min(SegmentLabel.created_at)).where(SegmentLabel.pair_id == pair_id, _UNDONE)
    return session.scalar(query)


def _set_removed(session: Session, where: ColumnElement[bool], moment: datetime | None) -> None:
    statement = update(SegmentLabel).where(where).values(removed_at=moment)
    session.execute(statement.execution_options(synchronize_session=False))
    session.expire_all()
