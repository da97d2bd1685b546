"""Pairs of a data set: one at a time, and as a table sorted and filtered by what a scoring run found.

Which pairs a table holds, and in which order, is found among arrays in memory (`pair_columns`), so that the
last page of 100,000 pairs under any filters comes as fast as the first; only the pairs of a page are then
read. Ids of pairs ascend with their positions, which the import sees to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float64, Int64
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from app.db.tables import Dataset, Pair, PairScore, Run, SegmentLabel
from app.errors import Invalid, Problem
from app.services.datasets.datasets import canonical_row, get_dataset, get_pair
from app.services.paging import DEFAULT_LIMIT, Page, bad_cursor, decode_cursor, encode_cursor, page_limit
from app.services.pairs import search as pair_search
from app.services.pairs.columns import (
    MetaColumn,
    PairColumns,
    ScoreColumns,
    ordered,
    pair_columns,
    score_columns,
)
from app.services.pairs.search import Within
from app.services.pairs.stances import PREFERENCE, RELATIONS, Relation, aligned, relations_of
from app.services.scorings.sources import chosen_source, scoring_run
from engine.formats.rows import row_to_pair
from engine.types import PreferencePair

SortColumn = Literal[
    "position",
    "conflict",
    "margin",
    "min_reward",
    "max_reward",
    "pivots",
    "tokens",
    "kept_chosen",
    "kept_rejected",
]
META = "meta."
"""Before the key of a meta field, where it is named beside columns."""

_BOUNDED = ("conflict", "margin", "min_reward", "max_reward", "pivots", "tokens")
_DESCENDING_FIRST = ("conflict", "pivots", "tokens", "max_reward")
_READ_AT_A_TIME = 256
_READ_AT_MOST = 8192
"""Pairs whose texts are read in one query: few at first, as a page is soon full where many have the text."""


class PairQuery(BaseModel):
    """Which pairs of a data set, in which order. What a run found of them needs a run."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)
    run_id: int | None = None
    """The scoring run whose numbers are shown; None shows the bare pairs."""
    source: str | None = None
    """The source of the numbers; None takes the run's first."""
    sort: SortColumn | Annotated[str, Field(pattern=r"^meta\..", max_length=1000)] = "position"
    """By a number: pairs that lack it come last, and pairs that the run has not reached are left out. Or by a
    field of the rows' own, `meta.<key>`."""
    descending: bool | None = None
    """None: as one wants to read it. Conflict, pivots, tokens and highest reward begin with the largest."""
    query: str | None = Field(None, max_length=1000)
    """Text that the prompt or a response contains, in any case: from the beginning of a word, or where
    nothing is found so, anywhere. Or the pair's key."""
    within: Within = "any"
    """Where the text is looked for: in the prompt, in one of the responses, or in all and the key."""
    only_contradicting: bool = False
    """Only pairs with conflict mass: a chosen response with bad segments or a rejected one with good ones."""
    relation: Relation | None = None
    """Only pairs on which the source and what it is held `against` agree (under a quarter of the reward mass
    contradicts the preference), contradict (over half does), or are mixed."""
    against: str = PREFERENCE
    """What `relation` holds the source against: `preference`, or another source of the run."""
    labelled: bool | None = None
    """Only pairs with labels by people, or without."""
    meta: tuple[str, ...] = ()
    """Only pairs whose rows have these fields: `key=value`, the value as the table shows it."""
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

    @model_validator(mode="after")
    def _bounds_hold_something(self) -> PairQuery:
        for column in _BOUNDED:
            low, high = getattr(self, f"min_{column}"), getattr(self, f"max_{column}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"Nothing lies above {low:g} and below {high:g}: give the lower bound first")
        return self

    @property
    def is_descending(self) -> bool:
        """The direction, with the default filled in."""
        return self.sort in _DESCENDING_FIRST if self.descending is None else self.descending

    @property
    def filters_by_score(self) -> bool:
        """Whether pairs are left out because of what a run found."""
        return (
            self.only_contradicting
            or self.relation is not None
            or any(
                getattr(self, f"{end}_{column}") is not None for column in _BOUNDED for end in ("min", "max")
            )
        )

    @property
    def sorts_by_score(self) -> bool:
        """Whether the order is one of numbers that a run found."""
        return self.sort != "position" and self.sort in get_args(SortColumn)


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


@dataclass(frozen=True, slots=True)
class Selection:
    """The pairs of a table in order, but for a text that only reading finds."""

    pair_ids: Int64[np.ndarray, " pairs"]
    values: Float64[np.ndarray, " pairs"]
    """What they are sorted by; NaN where they lack it, codes for texts."""
    order: str
    """The order's name, for cursors."""
    descending: bool
    scope: tuple[int, str] | None
    """Run and source of the scores; None without a run."""
    scores: ScoreColumns | None
    condition: ColumnElement[bool] | None
    """What the text of a pair must fulfil besides."""

    @property
    def reads_texts(self) -> bool:
        """Whether some of these pairs may yet be left out, by their texts."""
        return self.condition is not None

    @property
    def total(self) -> int | None:
        """How many pairs there are; None where saying it would mean reading every text."""
        return None if self.reads_texts else len(self.pair_ids)


def list_pairs(
    session: Session,
    dataset_id: int,
    query: PairQuery | None = None,
    *,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[PairRow]:
    """A page of the table. `total` is None where many pairs have the text that is looked for: counting them
    would mean reading all.

    Raises NotFound (data set, run), Invalid (a sort or filter that needs a run, a source that the run lacks,
    a meta field that the data lack, a cursor of another sort).
    """
    page_limit(limit)
    chosen = selection(session, get_dataset(session, dataset_id), query or PairQuery())
    start = 0 if cursor is None else _following(chosen, _place(chosen, cursor))
    places: list[int] = []
    for place in _passing(session, chosen, np.arange(start, len(chosen.pair_ids))):
        places.append(place)
        if len(places) > limit:
            break
    rows = _read_rows(session, chosen, chosen.pair_ids[places[:limit]].tolist())
    more = len(places) > limit
    total = len(places) if cursor is None and not more else chosen.total
    return Page(rows, _cursor(chosen, places[limit - 1]) if more else None, total)


def selection(session: Session, dataset: Dataset, query: PairQuery) -> Selection:
    """The pairs that pass the filters, in order. Raises as `list_pairs`."""
    run, source = _scope(session, dataset, query)
    scores = None if run is None or source is None else score_columns(session, run, source)
    by_score = query.sorts_by_score or query.filters_by_score
    if by_score and scores is None:
        raise Invalid(
            "Sorting and filtering by scores needs a scoring run of the data set; name one with `run_id`.",
            errors=[Problem(("query", "run_id"), "is needed for this sort or filter")],
        )
    known = pair_columns(session, dataset)
    pair_ids = scores.pair_ids if by_score and scores is not None else known.pair_ids
    passes = np.ones(len(pair_ids), dtype=np.bool_)
    if scores is not None and run is not None and query.filters_by_score:
        passes &= _passes_scores(session, run, scores, query)
    for field in query.meta:
        key, _, value = field.partition("=")
        column = _meta_column(known, key, "meta")
        code = column.values.index(value) if value in column.values else None
        passes &= aligned(column.codes, known.pair_ids, pair_ids, -1) == code if code is not None else False
    if query.labelled is not None:
        passes &= np.isin(pair_ids, _labelled(session, dataset)) == query.labelled
    condition = None
    if query.query:
        found = pair_search.find(session, dataset, query.query, query.within)
        condition = found.condition if found.pair_ids is None else None
        if found.pair_ids is not None:
            passes &= np.isin(pair_ids, found.pair_ids)
    places, values = _ordered(query, pair_ids, scores, known)
    places = places[passes[places]]
    return Selection(
        pair_ids=pair_ids[places],
        values=values[places],
        order=f"{query.sort} {'descending' if query.is_descending else 'ascending'}",
        descending=query.is_descending,
        scope=None if run is None or source is None else (run.id, source),
        scores=scores,
        condition=condition,
    )


def scores_of(session: Session, pair_id: int, run_id: int) -> dict[str, PairScore]:
    """Source -> what the run found of the pair by it; sources that have not reached the pair are absent."""
    query = select(PairScore).where(PairScore.run_id == run_id, PairScore.pair_id == pair_id)
    return {score.source: score for score in session.scalars(query)}


def neighbours(session: Session, pair_id: int, query: PairQuery | None = None) -> Neighbours:
    """The pairs before and after `pair_id` in the table that `query` describes. A pair that the filters leave
    out has none. Raises as `list_pairs`."""
    pair = get_pair(session, pair_id)
    chosen = selection(session, get_dataset(session, pair.dataset_id), query or PairQuery())
    found = np.flatnonzero(chosen.pair_ids == pair_id)
    if not len(found):
        return Neighbours(None, None, None, chosen.total)
    place = int(found[0])
    before = next(_passing(session, chosen, np.arange(place - 1, -1, -1)), None)
    after = next(_passing(session, chosen, np.arange(place + 1, len(chosen.pair_ids))), None)
    return Neighbours(
        previous=None if before is None else int(chosen.pair_ids[before]),
        next=None if after is None else int(chosen.pair_ids[after]),
        index=None if chosen.reads_texts else place,
        total=chosen.total,
    )


def to_preference_pair(pair: Pair) -> PreferencePair:
    """The engine's noun for a stored pair: exactly what was imported."""
    return row_to_pair(canonical_row(pair), line=pair.position + 1)


# --------------------------------------------------------------------------------------------- which pairs


def _scope(session: Session, dataset: Dataset, query: PairQuery) -> tuple[Run, str] | tuple[None, None]:
    if query.run_id is None:
        return None, None
    run = scoring_run(session, query.run_id)
    if run.dataset_id != dataset.id:
        raise Invalid(
            f"Run {run.id} scored another data set than `{dataset.name}`; choose one of its own runs.",
            errors=[Problem(("query", "run_id"), "is a run of another data set")],
        )
    return run, chosen_source(run, query.source)


def _passes_scores(
    session: Session, run: Run, scores: ScoreColumns, query: PairQuery
) -> Bool[np.ndarray, " pairs"]:
    passes = np.ones(len(scores.pair_ids), dtype=np.bool_)
    if query.only_contradicting:
        passes &= scores.numbers["conflict"] > 0
    for name in _BOUNDED:
        least, most = getattr(query, f"min_{name}"), getattr(query, f"max_{name}")
        if least is not None:
            passes &= scores.numbers[name] >= least
        if most is not None:
            passes &= scores.numbers[name] <= most
    if query.relation is not None:
        if query.against != PREFERENCE:
            chosen_source(run, query.against)
        passes &= relations_of(session, run, scores, query.against) == RELATIONS.index(query.relation)
    return passes


def _labelled(session: Session, dataset: Dataset) -> list[int]:
    labelled = select(SegmentLabel.pair_id).join(Pair, Pair.id == SegmentLabel.pair_id).distinct()
    return list(
        session.scalars(labelled.where(Pair.dataset_id == dataset.id, SegmentLabel.removed_at.is_(None)))
    )


def _meta_column(known: PairColumns, key: str, field: str) -> MetaColumn:
    if key not in known.meta:
        fields = ", ".join(f"`{name}`" for name in known.meta) or "none"
        raise Invalid(
            f"The rows of this data set have no meta field `{key[:80]}`; they have {fields}.",
            errors=[Problem(("query", field), "is not a meta field of the data set")],
        )
    return known.meta[key]


def _ordered(
    query: PairQuery, pair_ids: Int64[np.ndarray, " pairs"], scores: ScoreColumns | None, known: PairColumns
) -> tuple[Int64[np.ndarray, " pairs"], Float64[np.ndarray, " pairs"]]:
    """Places among `pair_ids` in order, and what each of `pair_ids` is sorted by."""
    if query.sorts_by_score and scores is not None:
        return scores.order(query.sort, query.is_descending), scores.numbers[query.sort]
    if query.sort.startswith(META):
        codes = _meta_column(known, query.sort.removeprefix(META), "sort").codes
        values = aligned(codes, known.pair_ids, pair_ids, -1).astype(np.float64)
        values[values < 0] = np.nan
        return ordered(values, query.is_descending), values
    places = np.arange(len(pair_ids))
    return (places[::-1] if query.is_descending else places), pair_ids.astype(np.float64)


# ------------------------------------------------------------------------------------------------- reading


def _passing(session: Session, chosen: Selection, places: Int64[np.ndarray, " some"]) -> Iterator[int]:
    """Those of the places whose pairs have the text, in the same order; read as far as somebody asks."""
    if chosen.condition is None:
        yield from map(int, places)
        return
    begun, count = 0, _READ_AT_A_TIME
    while begun < len(places):
        some = places[begun : begun + count]
        ids = chosen.pair_ids[some]
        query = select(Pair.id).where(Pair.id.in_(ids.tolist()), chosen.condition)
        having = set(session.scalars(query))
        yield from (
            int(place) for place, pair_id in zip(some, ids.tolist(), strict=True) if pair_id in having
        )
        begun, count = begun + count, min(4 * count, _READ_AT_MOST)


def _read_rows(session: Session, chosen: Selection, pair_ids: list[int]) -> list[PairRow]:
    pairs = {pair.id: pair for pair in session.scalars(select(Pair).where(Pair.id.in_(pair_ids)))}
    scores: dict[int, PairScore] = {}
    if chosen.scope is not None:
        run_id, source = chosen.scope
        of_run = select(PairScore).where(PairScore.run_id == run_id, PairScore.source == source)
        found = session.scalars(of_run.where(PairScore.pair_id.in_(pair_ids)))
        scores = {score.pair_id: score for score in found}
    # A pair may have gone since the arrays were read, with its data set.
    return [PairRow(pairs[pair_id], scores.get(pair_id)) for pair_id in pair_ids if pair_id in pairs]


# ------------------------------------------------------------------------------------------------- cursors


class _Place(NamedTuple):
    """Where a row stands: the value it is sorted by (None: it has none), and its id, which breaks ties."""

    value: float | None
    pair_id: int


def _following(chosen: Selection, place: _Place) -> int:
    """How many rows stand at the place or before it, also where its own row is there no more."""
    values, sign = chosen.values, -1 if chosen.descending else 1
    missing = np.isnan(values)
    beyond_id = chosen.pair_ids > place.pair_id
    if chosen.order.startswith("position"):
        after = sign * chosen.pair_ids > sign * place.pair_id
    elif place.value is None:
        after = missing & beyond_id
    else:
        after = missing | (sign * values > sign * place.value) | ((values == place.value) & beyond_id)
    return int(np.argmax(after)) if after.any() else len(values)


def _cursor(chosen: Selection, place: int) -> str:
    value = float(chosen.values[place])
    return encode_cursor(chosen.order, None if np.isnan(value) else value, int(chosen.pair_ids[place]))


def _place(chosen: Selection, cursor: str) -> _Place:
    order, value, pair_id = decode_cursor(cursor, [str, (int, float, NoneType), int])
    if order != chosen.order:
        raise bad_cursor()
    return _Place(value, pair_id)
