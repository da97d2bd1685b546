"""The table of pairs as an address: sort, filters, run and source, read from a query and written as links.

The pair page carries the same query along, so that its next and previous pair are those of the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rewardscope.app.pages.forms import validated
from rewardscope.app.services.pairs import PairQuery

SHORT = {"run_id": "run", "query": "q", "only_contradicting": "contradicting"}
"""Names in the address, where they differ from the field's."""
COLUMNS = ("conflict", "margin", "min_reward", "max_reward", "pivots", "tokens")


@dataclass(frozen=True, slots=True)
class Bound:
    """A pair of number fields that bound a column."""

    label: str
    low_name: str
    high_name: str
    low: str
    high: str
    step: str


@dataclass(frozen=True, slots=True)
class Heading:
    """The head of a column; a link where it sorts."""

    label: str
    address: str | None
    sorted: str | None
    """`ascending` or `descending` where the table is sorted by it."""
    hint: str
    is_number: bool = True
    is_aside: bool = False
    """Whether a narrow screen does without it."""
    width: str = "w-num"


def pair_query(values: Mapping[str, str]) -> PairQuery:
    """The query that an address asks for. Raises Invalid with the field that is wrong."""
    fields = {
        field: values[SHORT.get(field, field)] for field in PairQuery.model_fields if _has(values, field)
    }
    if "run_id" not in fields:
        fields = {name: value for name, value in fields.items() if name == "query"}
    return validated(PairQuery, fields)


def query_parameters(query: PairQuery) -> dict[str, Any]:
    """What an address must say so that `pair_query` gives `query`."""
    parameters: dict[str, Any] = {}
    for field in PairQuery.model_fields:
        value = getattr(query, field)
        if value != PairQuery.model_fields[field].default:
            parameters[SHORT.get(field, field)] = _written(value)
    return parameters


def headings(query: PairQuery, link: Any) -> list[Heading]:
    """The heads of the table; `link(query)` is the address of the table under another query."""
    told = {
        "position": ("Pair", "Place in the data set"),
        "conflict": ("Conflict", "Share of |reward| in segments that contradict the preference"),
        "margin": ("Margin", "Reward of the chosen response less that of the rejected one"),
        "min_reward": ("Lowest", "Lowest token reward of the pair"),
        "max_reward": ("Highest", "Highest token reward of the pair"),
        "pivots": ("Pivots", "Where the reward turns, in both responses"),
        "tokens": ("Tokens", "Response tokens, both sides"),
    }
    found = []
    for column, (label, hint) in told.items():
        is_sorted = query.sort == column
        turned = not query.is_descending if is_sorted else None
        other = query.model_copy(update={"sort": column, "descending": turned})
        found.append(
            Heading(
                label=label,
                hint=hint,
                address=link(other),
                sorted=("descending" if query.is_descending else "ascending") if is_sorted else None,
                is_number=column not in ("position", "conflict"),
                is_aside=column in ("min_reward", "max_reward", "pivots", "tokens"),
                width={"position": "w-key", "conflict": "w-conflict"}.get(column, "w-num"),
            )
        )
    return found


def bounds(query: PairQuery) -> list[Bound]:
    """The number fields of the filter."""
    labels = {
        "conflict": ("Conflict", "0.01"),
        "margin": ("Margin", "any"),
        "min_reward": ("Lowest reward", "any"),
        "max_reward": ("Highest reward", "any"),
        "pivots": ("Pivots", "1"),
        "tokens": ("Tokens", "1"),
    }
    return [
        Bound(
            label=label,
            low_name=f"min_{column}",
            high_name=f"max_{column}",
            low=_field(getattr(query, f"min_{column}")),
            high=_field(getattr(query, f"max_{column}")),
            step=step,
        )
        for column, (label, step) in labels.items()
    ]


def _has(values: Mapping[str, str], field: str) -> bool:
    return SHORT.get(field, field) in values


def _written(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _field(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
