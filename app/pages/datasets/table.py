"""The table of pairs as an address: run, sort, filters, columns, read from a query and written as links.

The pair page carries the same query along, so that its next and previous pair are those of the table, and the
way back leads to the same view.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from app.pages.parts.forms import validated
from app.pages.parts.numbers import plain_number, shortened
from app.services.pairs.pairs import META, PairQuery
from app.services.pairs.stances import PREFERENCE, Relation

SHORT = {"run_id": "run", "query": "q", "only_contradicting": "contradicting"}
"""Names in the address, where they differ from the field's. A meta field is `meta.<key>=value`."""
BOUNDED = {
    "conflict": "Conflict",
    "margin": "Margin",
    "min_reward": "Lowest",
    "max_reward": "Highest",
    "pivots": "Pivots",
    "tokens": "Tokens",
}
"""Columns that can be bounded, and what they are called."""
WITHOUT_A_RUN = ("query", "within", "labelled", "meta", "columns", "rows")
RELATION_WORDS: Mapping[Relation, str] = {
    "agree": "agrees with",
    "mixed": "is mixed about",
    "contradict": "contradicts",
}
ROW_CHOICES = (25, 50, 100, 200)
ROWS = 50

Link = Callable[[PairQuery], str]


@dataclass(frozen=True, slots=True)
class PairColumn:
    """A column that the table can show."""

    name: str
    label: str
    hint: str
    kind: str
    """How its cells are written: `share`, `signed`, `count`, `why`, `text` or `meta`."""
    width: str = "w-num"
    sorts: bool = True
    by_default: bool = False

    @property
    def is_number(self) -> bool:
        return self.kind in ("signed", "count")


SCORED = (
    PairColumn(
        "conflict",
        "Conflict",
        "Share of |reward| in segments that contradict the preference",
        "share",
        "w-conflict",
        by_default=True,
    ),
    PairColumn(
        "margin",
        "Margin",
        "Reward of the chosen response less that of the rejected one",
        "signed",
        by_default=True,
    ),
    PairColumn("min_reward", "Lowest", "Lowest token reward of the pair", "signed"),
    PairColumn("max_reward", "Highest", "Highest token reward of the pair", "signed"),
    PairColumn("pivots", "Pivots", "Where the reward turns, in both responses", "count"),
    PairColumn("tokens", "Tokens", "Response tokens, both sides", "count", by_default=True),
    PairColumn(
        "kept_chosen", "Kept, chosen", "Share of its tokens that the mask keeps", "share", "w-conflict"
    ),
    PairColumn(
        "kept_rejected", "Kept, rejected", "Share of its tokens that the mask keeps", "share", "w-conflict"
    ),
    PairColumn(
        "why",
        "Loudest contradiction",
        "The segment with the most reward against the preference: a bad one of the chosen response "
        "or a good one of the rejected",
        "why",
        "w-why",
        sorts=False,
        by_default=True,
    ),
)
TEXTS = tuple(
    PairColumn(name, name.capitalize(), "", "text", "", sorts=False, by_default=True)
    for name in ("prompt", "chosen", "rejected")
)


class TableQuery(PairQuery):
    """The pairs of a table, and how they are laid out."""

    columns: str | None = None
    """Names of the columns, as `written_columns` has them; None for the usual ones."""
    rows: int = ROWS
    """Pairs a page."""


@dataclass(frozen=True, slots=True)
class Heading:
    """The head of a column; a link where it sorts."""

    label: str
    address: str | None
    sorted: str | None
    """`ascending` or `descending` where the table is sorted by it."""
    hint: str
    is_number: bool = False
    width: str = ""


@dataclass(frozen=True, slots=True)
class FilterChip:
    """A filter that is on, and the address of the table without it."""

    label: str
    address: str


def pair_query(values: Mapping[str, str]) -> TableQuery:
    """The query that an address asks for. Raises Invalid with the field that is wrong."""
    fields: dict[str, Any] = {
        field: values[SHORT.get(field, field)]
        for field in TableQuery.model_fields
        if SHORT.get(field, field) in values
    }
    # `meta.part=adversarial`, because a select box for each field needs a name of its own.
    meta = [f"{name.removeprefix(META)}={value}" for name, value in values.items() if name.startswith(META)]
    fields["meta"] = tuple(meta)
    if fields.get("rows") not in {str(rows) for rows in ROW_CHOICES}:
        # A look breaks nothing: what means nothing is passed over.
        fields.pop("rows", None)
    if "run_id" not in fields:
        sorts = ("sort", "descending") if fields.get("sort", "").startswith((META, "position")) else ()
        fields = {name: value for name, value in fields.items() if name in (*WITHOUT_A_RUN, *sorts)}
    return validated(TableQuery, fields)


def query_parameters(query: PairQuery) -> dict[str, Any]:
    """What an address must say so that `pair_query` gives `query`."""
    parameters: dict[str, Any] = {}
    for name, field in type(query).model_fields.items():
        value = getattr(query, name)
        if name != "meta" and value != field.default:
            parameters[SHORT.get(name, name)] = _written(value)
    for condition in query.meta:
        key, _, value = condition.partition("=")
        parameters[META + key] = value
    return parameters


def api_parameters(query: PairQuery) -> list[tuple[str, str]]:
    """The same question for the API, which has the fields under their own names."""
    found = [("meta", condition) for condition in query.meta]
    for name, field in PairQuery.model_fields.items():
        value = getattr(query, name)
        if name != "meta" and value != field.default:
            found.append((name, str(_written(value))))
    return found


def written_columns(names: Sequence[str]) -> str | None:
    """Names of columns as an address has them: a comma within a name is not one between two."""
    return ",".join(quote(name, safe=" ./:-_") for name in dict.fromkeys(names)) or None


def read_columns(written: str | None) -> list[str]:
    """The names again."""
    return [unquote(name) for name in (written or "").split(",") if name]


def all_columns(query: PairQuery, meta_keys: Sequence[str]) -> list[PairColumn]:
    """Every column that the table can show."""
    own = [PairColumn(META + key, key, f"`{key}` of the row's meta", "meta", "w-meta") for key in meta_keys]
    return [*(SCORED if query.run_id is not None else ()), *TEXTS, *own]


def shown_columns(query: TableQuery, known: Sequence[PairColumn]) -> list[PairColumn]:
    """The columns that are shown: those that were chosen, and what the table is sorted by. Names that mean
    nothing here are passed over."""
    names = read_columns(query.columns)
    wanted = [column for column in known if column.name in names]
    if not wanted:
        wanted = [column for column in known if column.by_default]
    return [column for column in known if column in wanted or column.name == query.sort]


def headings(query: PairQuery, columns: Sequence[PairColumn], link: Link) -> list[Heading]:
    """The heads of the table; `link(query)` is the address of the table under another query."""
    place = PairColumn("position", "Pair", "Place in the data set", "key", "w-key")
    return [_heading(query, column, link) for column in (place, *columns)]


def _heading(query: PairQuery, column: PairColumn, link: Link) -> Heading:
    can_sort = column.sorts and (query.run_id is not None or column.kind in ("key", "meta"))
    is_sorted = can_sort and query.sort == column.name
    turned = not query.is_descending if is_sorted else None
    return Heading(
        label=column.label,
        hint=column.hint,
        address=link(query.model_copy(update={"sort": column.name, "descending": turned}))
        if can_sort
        else None,
        sorted=("descending" if query.is_descending else "ascending") if is_sorted else None,
        is_number=column.is_number,
        width=column.width,
    )


def chips(query: PairQuery, labels: Mapping[str, str], link: Link) -> list[FilterChip]:
    """A chip for each filter that is on; `labels` has the names of sources as people say them."""

    def chip(label: str, **without: Any) -> FilterChip:
        return FilterChip(label, link(query.model_copy(update=without)))

    found = []
    if query.relation is not None:
        source = labels.get(query.source or "", "The source")
        held = "the preference" if query.against == PREFERENCE else labels.get(query.against, query.against)
        told = f"{source} {RELATION_WORDS[query.relation]} {held}"
        found.append(chip(told, relation=None, against=PREFERENCE))
    if query.query:
        place = "" if query.within == "any" else f" in {query.within}"
        found.append(chip(f"“{shortened(query.query, 60)}”{place}", query=None, within="any"))
    if query.only_contradicting:
        found.append(chip("any conflict", only_contradicting=False))
    if query.labelled is not None:
        found.append(chip("labelled by people" if query.labelled else "not labelled", labelled=None))
    for condition in query.meta:
        rest = tuple(other for other in query.meta if other != condition)
        found.append(chip(shortened(condition.replace("=", ": ", 1), 80), meta=rest))
    for column, label in BOUNDED.items():
        least, most = getattr(query, f"min_{column}"), getattr(query, f"max_{column}")
        if least is not None or most is not None:
            told = f"{label} {said_range(least, most)}"
            found.append(chip(told, **{f"min_{column}": None, f"max_{column}": None}))
    return found


def said_range(least: float | None, most: float | None) -> str:
    """Bounds in words; none are `all`."""
    if least is None and most is None:
        return "all"
    if least is None:
        return f"up to {plain_number(most)}"
    if most is None:
        return f"from {plain_number(least)}"
    return f"{plain_number(least)} to {plain_number(most)}"


def _written(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    return value
