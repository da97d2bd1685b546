"""Finding pairs by their text: from the beginnings of words by an index, else anywhere by reading."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, Text, cast, func, literal_column, or_, select
from sqlalchemy import text as sql_text
from sqlalchemy.orm import Session

from app.db.tables import PAIR_WORDS, Dataset, Pair

Within = Literal["any", "prompt", "chosen", "rejected"]

MAX_FOUND_BY_WORDS = 500
"""A text that more pairs contain is found by reading: one pair in 200 of 100,000, a page is soon full."""
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\U0010ffff]")
"""Scripts that write words without spaces between them (Thai, Burmese, Khmer, Chinese, Japanese ...)."""
_WORDS = sql_text("""
    SELECT string_agg(quote_literal(lexeme) || ':*', ' & ') FROM unnest(to_tsvector('simple', :text))
""")
"""What to ask the index of words for: every word of a text, each of which may go on."""
_TEXTS = {
    "prompt": (Pair.prompt, cast(Pair.messages, Text)),
    "chosen": (Pair.chosen,),
    "rejected": (Pair.rejected,),
}


@dataclass(frozen=True, slots=True)
class Found:
    """Where a text stands: in these pairs, or in those of which the condition is true when they are read."""

    pair_ids: list[int] | None
    """Ascending; None where only reading tells."""
    condition: ColumnElement[bool]


def find(session: Session, dataset: Dataset, text: str, within: Within = "any") -> Found:
    """Pairs with this text. Where few have it, the index of words names them; where many have it, reading on
    until a page is full is fast. Only a text that no word begins with is looked for in every pair."""
    condition = _contains(text, within)
    found = [] if _UNSPACED.search(text) else _with_words(session, dataset.id, text, within, condition)
    return Found(found if 0 < len(found) <= MAX_FOUND_BY_WORDS else None, condition)


def _with_words(
    session: Session, dataset_id: int, text: str, within: Within, condition: ColumnElement[bool]
) -> list[int]:
    """Ids of pairs that contain `text`, and in which a word begins with each of its words, or whose key it
    is; at most one more than MAX_FOUND_BY_WORDS."""
    words = session.scalar(_WORDS, {"text": text})
    by_key = select(Pair.id).where(Pair.dataset_id == dataset_id, Pair.key == text)
    keyed = list(session.scalars(by_key)) if within == "any" else []
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
    query = query.where(Pair.dataset_id == dataset_id, condition).limit(MAX_FOUND_BY_WORDS + 1)
    return sorted({*keyed, *session.scalars(query)})


def _contains(text: str, within: Within) -> ColumnElement[bool]:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    sides = list(_TEXTS) if within == "any" else [within]
    held = [column.ilike(f"%{escaped}%") for side in sides for column in _TEXTS[side]]
    return or_(Pair.key == text, *held) if within == "any" else or_(*held)
