"""Where rewards and preferences disagree: a small matrix of sources whose numbers lead to their pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.pages.datasets.table import Link, TableQuery
from app.pages.parts.numbers import count, percent
from app.services.pairs.stances import AGREES_BELOW, CONTRADICTS_ABOVE, PREFERENCE, Relation, StanceCount
from app.services.scorings.maps import RunSource

SIGNS: Mapping[Relation, tuple[str, str]] = {
    "contradict": ("✕", "contradict"),
    "mixed": ("≈", "are mixed about"),
    "agree": ("✓", "agree with"),
}
"""What stands beside the colour, and the word; what is looked for comes first."""
BAR = 100


@dataclass(frozen=True, slots=True)
class Part:
    """The pairs of a cell that stand in one relation."""

    relation: Relation
    sign: str
    pairs: int
    share: float
    address: str
    is_shown: bool
    hint: str
    x: float
    width: float
    """Its part of the cell's bar."""


@dataclass(frozen=True, slots=True)
class MatrixCell:
    """A source against the preference or another source; without parts where there is nothing to count."""

    against: str
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """A source."""

    label: str
    is_shown: bool
    address: str
    cells: list[MatrixCell]


@dataclass(frozen=True, slots=True)
class ConflictPanel:
    """All sources of a run."""

    columns: list[str]
    rows: list[MatrixRow]
    contradicts_above: str
    agrees_below: str


def conflict_panel(
    counts: Sequence[StanceCount], sources: Sequence[RunSource], query: TableQuery, link: Link
) -> ConflictPanel:
    """The matrix; `query.source` is the source shown, and `link` gives the address of another table."""
    labels = {source.name: source.label for source in sources}
    # A source is held against those before it, so the last one heads no column.
    against = {PREFERENCE: "the preference", **{one.name: one.label for one in sources[:-1]}}
    known = {(one.source, one.against): one for one in counts}
    return ConflictPanel(
        columns=list(against.values()),
        rows=[
            MatrixRow(
                label=source.label,
                is_shown=source.name == query.source,
                address=link(query.model_copy(update={"source": source.name})),
                cells=[
                    MatrixCell(label, _parts(known.get((source.name, other)), labels, query, link))
                    for other, label in against.items()
                ],
            )
            for source in sources
        ],
        contradicts_above=percent(CONTRADICTS_ABOVE),
        agrees_below=percent(AGREES_BELOW),
    )


def _parts(one: StanceCount | None, labels: Mapping[str, str], query: TableQuery, link: Link) -> list[Part]:
    if one is None or not one.total:
        return []
    parts, x = [], 0.0
    other = "the preference" if one.against == PREFERENCE else labels[one.against]
    for relation, (sign, word) in SIGNS.items():
        pairs: int = getattr(one, relation)
        width = BAR * pairs / one.total
        # The numbers are those of the whole run, so the link drops what else was filtered.
        target = TableQuery(
            run_id=query.run_id,
            columns=query.columns,
            rows=query.rows,
            source=one.source,
            against=one.against,
            relation=relation,
            sort="conflict",
        )
        shown = (query.source, query.against, query.relation)
        parts.append(
            Part(
                relation=relation,
                sign=sign,
                pairs=pairs,
                share=pairs / one.total,
                address=link(target),
                is_shown=shown == (one.source, one.against, relation),
                hint=f"{count(pairs)} pairs on which {labels[one.source]} and {other} {_plural(word)}",
                x=round(x, 2),
                width=round(width, 2),
            )
        )
        x += width
    return parts


def _plural(word: str) -> str:
    """The word for two that stand so to each other."""
    return {"are mixed about": "are mixed", "agree with": "agree"}.get(word, word)
