"""Pairs of a data set: one at a time, and as a table sorted and filtered by what a scoring run found.

The table walks along an index from the last row of the page before, so that the last page of 100,000 pairs
comes as fast as the first. Ids of pairs ascend with their positions, which the import sees to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import NoneType
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, Select, Text, and_, cast, func, literal_column, null, or_, select
from sqlalchemy import text as sql_text
from sqlalchemy.orm import InstrumentedAttribute, Session

from rewardscope.app.db.models import PAIR_WORDS, Dataset, Job, Pair, PairScore
from rewardscope.app.errors import Invalid, NotFound, Problem
from rewardscope.app.services.datasets import canonical_row, get_dataset
from rewardscope.app.services.pages import (
    DEFAULT_LIMIT,
    Page,
    bad_cursor,
    decode_cursor,
    encode_cursor,
    page_limit,
)
from rewardscope.app.services.run_sources import chosen_source, scoring_run
from rewardscope.engine.formats.rows import row_to_pair
from rewardscope.engine.types import PreferencePair

SortColumn = Literal["position", "conflict", "margin", "min_reward", "max_reward", "pivots", "tokens"]
Filter = ColumnElement[bool]

_BOUNDED = ("conflict", "margin", "min_reward", "max_reward", "pivots", "tokens")
_UNIQUE = ("position", "pair_id")
"""Columns without ties and without nulls."""
_INDEXED_DESCENDING = "conflict"
"""The one column whose index runs from high to low, with ids from low to high."""
_DESCENDING_FIRST = ("conflict", "pivots", "tokens", "max_reward")
MAX_FOUND_BY_WORDS = 500
"""A text that more pairs contain is found by reading: one pair in 200 of 100,000, a page is soon full."""
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\U0010ffff]")
"""Scripts that write words without spaces between them (Thai, Burmese, Khmer, Chinese, Japanese ...)."""
_WORDS = sql_text("""
    SELECT string_agg(quote_literal(lexeme) || ':*', ' & ') FROM unnest(to_tsvector('simple', :text))
""")
"""What to ask the index of words for: every word of a text, each of which may go on."""


class PairQuery(BaseModel):
    """Which pairs of a data set, in which order. Everything but `position` and `query` needs a run."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)
    run_id: int | None = None
    """The scoring run whose numbers are shown; None shows the bare pairs."""
    source: str | None = None
    """The source of the numbers; None takes the run's first."""
    sort: SortColumn = "position"
    """By a number: pairs that lack it come last, and pairs that the run has not reached are left out."""
    descending: bool | None = None
    """None: as one wants to read it. Conflict, pivots, tokens and highest reward begin with the largest."""
    query: str | None = Field(None, max_length=1000)
    """Text that the prompt or a response contains, in any case: from the beginning of a word, or where
    nothing is found so, anywhere. Or the pair's key."""
    only_contradicting: bool = False
    """Only pairs with conflict mass: a chosen response with bad segments or a rejected one with good ones."""
    min_conflict: float | None = None
    max_conflict: float | None = None
    min_margin: float | None = None
    max_margin: float | None = None
    min_min_reward: float | None = None
    """Bounds of the lowest token reward of the pair."""
    max_min_reward: float | None = None
    min_max_reward: float | None = None
    """Bounds of the highest token reward of the pair."""
    max_max_reward: float | None = None
    min_pivots: int | None = None
    max_pivots: int | None = None
    min_tokens: int | None = None
    max_tokens: int | None = None

    @property
    def is_descending(self) -> bool:
        """The direction, with the default filled in."""
        return self.sort in _DESCENDING_FIRST if self.descending is None else self.descending

    @property
    def filters_by_score(self) -> bool:
        """Whether pairs are left out because of what a run found."""
        return self.only_contradicting or any(
            getattr(self, f"{end}_{column}") is not None for column in _BOUNDED for end in ("min", "max")
        )


@dataclass(frozen=True, slots=True)
class PairRow:
    """A line of the table."""

    pair: Pair
    score: PairScore | None
    """None without a run, or where the run has not reached this pair."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Where a pair stands in a table."""

    previous: int | None
    """Id of the pair before; None for the first."""
    next: int | None
    index: int | None
    """Its place, from 0; None when the filters leave the pair itself out."""
    total: int | None


def list_pairs(
    session: Session,
    dataset_id: int,
    query: PairQuery | None = None,
    *,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[PairRow]:
    """A page of the table. `total` is None while `query.query` is set: counting would read every text.

    Raises NotFound (data set, run), Invalid (a sort or bound that needs a run, a source that the run lacks, a
    cursor of another sort).
    """
    query = query or PairQuery()
    page_limit(limit)
    table = _table(session, get_dataset(session, dataset_id), query)
    rows = table.rows(session, None if cursor is None else _place(table, cursor), limit + 1)
    more = len(rows) > limit
    return Page(rows[:limit], _cursor(table, rows[limit - 1]) if more else None, table.count(session))


def get_pair(session: Session, pair_id: int) -> Pair:
    """The pair. Raises NotFound."""
    pair = session.get(Pair, pair_id)
    if pair is None:
        raise NotFound(f"There is no pair {pair_id}; open its data set to see the pairs that exist.")
    return pair


def scores_of(session: Session, pair_id: int, run_id: int) -> dict[str, PairScore]:
    """Source -> what the run found of the pair by it; sources that have not reached the pair are absent."""
    query = select(PairScore).where(PairScore.run_id == run_id, PairScore.pair_id == pair_id)
    return {score.source: score for score in session.scalars(query)}


def neighbours(session: Session, pair_id: int, query: PairQuery | None = None) -> Neighbours:
    """The pairs before and after `pair_id` in the table that `query` describes. Raises as `list_pairs`."""
    query = query or PairQuery()
    pair = get_pair(session, pair_id)
    table = _table(session, get_dataset(session, pair.dataset_id), query)
    score = session.get(PairScore, (*table.scope, pair_id)) if table.scope else None
    if table.by_score and score is None:
        return Neighbours(None, None, None, table.count(session))
    place = table.place_of(PairRow(pair, score))
    following = table.rows(session, place, 1)
    preceding = table.backwards().rows(session, place, 1)
    return Neighbours(
        previous=preceding[0].pair.id if preceding else None,
        next=following[0].pair.id if following else None,
        index=table.index(session, place),
        total=table.count(session),
    )


def to_preference_pair(pair: Pair) -> PreferencePair:
    """The engine's noun for a stored pair: exactly what was imported."""
    return row_to_pair(canonical_row(pair), line=pair.position + 1)


# ---------------------------------------------------------------------------------------------- the table


class _Place(NamedTuple):
    """Where a row stands: the value it is sorted by (None: it has none), and its id, which breaks ties."""

    value: float | None
    pair_id: int


class _Stretch(NamedTuple):
    """A part of the table that is one walk along an index."""

    where: list[Filter]
    order: list[ColumnElement[Any]]


@dataclass(frozen=True, slots=True)
class _Table:
    """The rows of a data set in the order and under the filters of a query.

    Either a walk along `pairs`, with the scores looked up beside (`by_score` False), or along an index of
    `pair_scores`, with the pairs looked up.
    """

    dataset: Dataset
    scope: tuple[int, str] | None
    """Run and source of the scores; None without a run."""
    by_score: bool
    column: InstrumentedAttribute[Any]
    """What the rows are sorted by."""
    descending: bool
    ties_descending: bool
    nulls_first: bool
    """Where rows without a value stand: last, but for the table read backwards."""
    filters: Sequence[Filter]
    countable: bool
    """Whether the rows can be counted without reading texts."""

    def rows(self, session: Session, after: _Place | None, limit: int) -> list[PairRow]:
        """The first `limit` rows, or those that follow `after`."""
        found: list[PairRow] = []
        for stretch in self._stretches(after):
            if len(found) < limit:
                statement = self._select().where(*stretch.where).order_by(*stretch.order)
                result = session.execute(statement.limit(limit - len(found)))
                found += [PairRow(pair, score) for pair, score in result]
        return found

    def backwards(self) -> _Table:
        """The same rows from the other end."""
        return replace(
            self,
            descending=not self.descending,
            ties_descending=not self.ties_descending,
            nulls_first=not self.nulls_first,
        )

    def place_of(self, row: PairRow) -> _Place:
        """Where a row of this table stands."""
        record = row.score if self.by_score else row.pair
        return _Place(getattr(record, self.column.key), row.pair.id)

    def count(self, session: Session) -> int | None:
        """How many rows there are; None where they are not countable."""
        if not self.countable:
            return None
        if not self.by_score:
            return self.dataset.pair_count
        if self.filters:
            return session.scalar(self._counting())
        # Every pair before this place has its scores, and none after it: no need to count 100,000 of them.
        assert self.scope is not None
        return session.scalar(select(Job.resume_from).where(Job.run_id == self.scope[0]))

    def index(self, session: Session, place: _Place) -> int | None:
        """How many rows stand before `place`; None if no row stands there, or they are not countable."""
        if not self.countable:
            return None
        if not self.by_score:
            position = int(place.value or 0)
            return self.dataset.pair_count - 1 - position if self.descending else position
        if not session.scalar(self._counting().where(PairScore.pair_id == place.pair_id)):
            return None
        before = self.backwards()._stretches(place)
        return sum(session.scalar(self._counting().where(*stretch.where)) or 0 for stretch in before)

    def _select(self) -> Select[Any, Any]:
        if self.scope is None:
            return select(Pair, null()).where(Pair.dataset_id == self.dataset.id, *self.filters)
        if self.by_score:
            joined = select(Pair, PairScore).join_from(PairScore, Pair, Pair.id == PairScore.pair_id)
            return joined.where(*self._in_scope(), *self.filters)
        beside = and_(PairScore.pair_id == Pair.id, *self._in_scope())
        joined = select(Pair, PairScore).join_from(Pair, PairScore, beside, isouter=True)
        return joined.where(Pair.dataset_id == self.dataset.id, *self.filters)

    def _counting(self) -> Select[int]:
        return select(func.count()).select_from(PairScore).where(*self._in_scope(), *self.filters)

    def _in_scope(self) -> list[Filter]:
        assert self.scope is not None
        run_id, source = self.scope
        return [PairScore.run_id == run_id, PairScore.source == source]

    def _stretches(self, after: _Place | None) -> list[_Stretch]:
        """The rows that follow `after`, in up to three walks: those of an equal value, those beyond it, those
        without a value. (One condition for all three could not use the index.)"""
        column, pair_id = self.column, PairScore.pair_id
        if column.key in _UNIQUE:
            beyond = [] if after is None else [_beyond(column, after.value, self.descending)]
            return [_Stretch(beyond, [_ordered(column, self.descending)])]
        ties = _ordered(pair_id, self.ties_descending)
        walk = [self._along_the_index(), ties]
        valued, without = _Stretch([column.is_not(None)], walk), _Stretch([column.is_(None)], [ties])
        if after is None:
            return [without, valued] if self.nulls_first else [valued, without]
        beyond_ties = _beyond(pair_id, after.pair_id, self.ties_descending)
        if after.value is None:
            rest = [valued] if self.nulls_first else []
            return [_Stretch([column.is_(None), beyond_ties], [ties]), *rest]
        rest = [] if self.nulls_first else [without]
        return [
            _Stretch([column == after.value, beyond_ties], [ties]),
            _Stretch([_beyond(column, after.value, self.descending)], walk),
            *rest,
        ]

    def _along_the_index(self) -> ColumnElement[Any]:
        """The order as the index has it, read forwards or backwards; an index keeps its nulls at one end."""
        if self.column.key != _INDEXED_DESCENDING:
            return _ordered(self.column, self.descending)
        return self.column.desc().nulls_last() if self.descending else self.column.asc().nulls_first()


def _table(session: Session, dataset: Dataset, query: PairQuery) -> _Table:
    scope = _scope(session, dataset, query)
    by_score = query.sort != "position" or query.filters_by_score
    if by_score and scope is None:
        raise Invalid(
            "Sorting and filtering by scores needs a scoring run of the data set; name one with `run_id`.",
            errors=[Problem(("query", "run_id"), "is needed for this sort or filter")],
        )
    if query.sort != "position":
        column = getattr(PairScore, query.sort)
    else:
        column = PairScore.pair_id if by_score else Pair.position
    return _Table(
        dataset=dataset,
        scope=scope,
        by_score=by_score,
        column=column,
        descending=query.is_descending,
        # An index is walked forwards or backwards, its ids with it.
        ties_descending=query.is_descending != (query.sort == _INDEXED_DESCENDING),
        nulls_first=False,
        filters=_filters(session, dataset, query),
        countable=not query.query,
    )


def _scope(session: Session, dataset: Dataset, query: PairQuery) -> tuple[int, str] | None:
    if query.run_id is None:
        return None
    run = scoring_run(session, query.run_id)
    if run.dataset_id != dataset.id:
        raise Invalid(
            f"Run {run.id} scored another data set than `{dataset.name}`; choose one of its own runs.",
            errors=[Problem(("query", "run_id"), "is a run of another data set")],
        )
    return run.id, chosen_source(run, query.source)


def _filters(session: Session, dataset: Dataset, query: PairQuery) -> list[Filter]:
    filters: list[Filter] = []
    if query.only_contradicting:
        filters.append(PairScore.conflict > 0)
    for name in _BOUNDED:
        column = getattr(PairScore, name)
        least, most = getattr(query, f"min_{name}"), getattr(query, f"max_{name}")
        if least is not None:
            filters.append(column >= least)
        if most is not None:
            filters.append(column <= most)
    if query.query:
        filters.append(_mentions(session, dataset, query.query))
    return filters


def _mentions(session: Session, dataset: Dataset, text: str) -> Filter:
    """Pairs with this text. Where few have it, the index of words names them; where many have it, reading on
    until a page is full is fast. Only a text that no word begins with is looked for in every pair."""
    found = [] if _UNSPACED.search(text) else _with_words(session, dataset.id, text)
    if 0 < len(found) <= MAX_FOUND_BY_WORDS:
        return Pair.id.in_(found)
    return _contains(text)


def _with_words(session: Session, dataset_id: int, text: str) -> list[int]:
    """Ids of pairs that contain `text`, and in which a word begins with each of its words, or whose key it
    is; at most one more than MAX_FOUND_BY_WORDS."""
    words = session.scalar(_WORDS, {"text": text})
    keyed = list(session.scalars(select(Pair.id).where(Pair.dataset_id == dataset_id, Pair.key == text)))
    if not words:
        return keyed
    # By itself, so that it is one look into the index: next to an order and a limit, PostgreSQL would rather
    # take every pair's texts apart again.
    named = (
        select(Pair.id)
        .where(literal_column(f"({PAIR_WORDS})").bool_op("@@")(func.to_tsquery("simple", words)))
        .cte("named")
        .prefix_with("MATERIALIZED")
    )
    query = select(Pair.id).join(named, named.c.id == Pair.id)
    query = query.where(Pair.dataset_id == dataset_id, _contains(text)).limit(MAX_FOUND_BY_WORDS + 1)
    return sorted({*keyed, *session.scalars(query)})


def _contains(text: str) -> Filter:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    texts = [Pair.prompt, cast(Pair.messages, Text), Pair.chosen, Pair.rejected]
    return or_(Pair.key == text, *(column.ilike(f"%{escaped}%") for column in texts))


def _ordered(column: InstrumentedAttribute[Any], descending: bool) -> ColumnElement[Any]:
    return column.desc() if descending else column.asc()


def _beyond(column: InstrumentedAttribute[Any], value: float | None, descending: bool) -> Filter:
    return column < value if descending else column > value


# ------------------------------------------------------------------------------------------------ cursors


def _order_name(table: _Table) -> str:
    return f"{table.column.key} {'descending' if table.descending else 'ascending'}"


def _cursor(table: _Table, row: PairRow) -> str:
    return encode_cursor(_order_name(table), *table.place_of(row))


def _place(table: _Table, cursor: str) -> _Place:
    order, value, pair_id = decode_cursor(cursor, [str, (int, float, NoneType), int])
    if order != _order_name(table):
        raise bad_cursor()
    return _Place(value, pair_id)
