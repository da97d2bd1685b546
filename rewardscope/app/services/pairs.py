"""Pairs of a data set: one at a time, and as a table sorted and filtered by what a scoring run found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from rewardscope.app.db.models import Pair, PairScore
from rewardscope.app.services.pages import DEFAULT_LIMIT, Page
from rewardscope.engine.types import PreferencePair

SortColumn = Literal["position", "conflict", "margin", "min_reward", "max_reward", "pivots", "tokens"]


class PairQuery(BaseModel):
    """Which pairs of a data set, in which order. Everything but `position` and `query` needs a run."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)
    run_id: int | None = None
    """The scoring run whose numbers are shown; None shows the bare pairs."""
    source: str | None = None
    """The source of the numbers; None takes the run's first."""
    sort: SortColumn = "position"
    descending: bool | None = None
    """None: as one wants to read it, most conflict, pivots and tokens first, lowest margin and reward first."""
    query: str | None = Field(None, max_length=1000)
    """Text that the prompt or a response contains, in any case."""
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
    """A page of the table. Raises NotFound (data set, run), Invalid (a sort or bound that needs a run, a source
    that the run lacks, a cursor of another sort)."""
    raise NotImplementedError


def get_pair(session: Session, pair_id: int) -> Pair:
    """The pair. Raises NotFound."""
    raise NotImplementedError


def neighbours(session: Session, pair_id: int, query: PairQuery | None = None) -> Neighbours:
    """The pairs before and after `pair_id` in the table that `query` describes. Raises as `list_pairs`."""
    raise NotImplementedError


def to_preference_pair(pair: Pair) -> PreferencePair:
    """The engine's noun for a stored pair: exactly what was imported."""
    raise NotImplementedError
