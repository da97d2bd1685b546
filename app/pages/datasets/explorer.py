"""The page of a data set: where rewards and preferences disagree, histograms to brush, the table of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from fastapi import APIRouter, Form, Request, Response
from sqlalchemy.orm import Session

from app.db.tables import Dataset, JobStatus, Run
from app.dependencies import SessionDep
from app.errors import Invalid
from app.pages.datasets.agreement import AgreementPanel, agreement_panel
from app.pages.datasets.conflicts import ConflictPanel, conflict_panel
from app.pages.datasets.histogram import HistogramPanel, panels
from app.pages.datasets.table import (
    ROW_CHOICES,
    FilterChip,
    Heading,
    PairColumn,
    TableQuery,
    all_columns,
    api_parameters,
    chips,
    headings,
    pair_query,
    query_parameters,
    read_columns,
    shown_columns,
    written_columns,
)
from app.pages.parts.excerpts import Piece, excerpt
from app.pages.parts.forms import filled
from app.pages.parts.masking import MaskingPanel, masking_panel
from app.pages.parts.numbers import count, counted, shortened
from app.pages.parts.rendering import Option, PageContext, render, see_other, url_of
from app.pages.parts.scoring_runs import default_run, run_options, scoring_runs
from app.services.datasets import datasets
from app.services.pairs import histograms, pairs, reasons, saved_views, stances
from app.services.pairs.columns import MetaColumn, meta_text, pair_columns
from app.services.pairs.pairs import META, PairQuery, PairRow
from app.services.pairs.reasons import Reason
from app.services.pairs.stances import PREFERENCE
from app.services.scorings import maps
from app.services.scorings.maps import RunSource

SNIPPET = 160
WHY_SNIPPET = 80
SHOWN_VALUES = 60
"""Values of a meta field that a select box lists; a field with more is typed."""
SHOWN_META = 8
WITHIN = (
    ("any", "anywhere"),
    ("prompt", "in the prompt"),
    ("chosen", "in chosen"),
    ("rejected", "in rejected"),
)
SEARCHED = {
    "any": "prompts, responses and keys",
    "prompt": "prompts",
    "chosen": "chosen responses",
    "rejected": "rejected responses",
}
LABELLED = (("", "labelled or not"), ("1", "labelled by people"), ("0", "not labelled"))

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Why:
    """A segment by which a pair contradicts itself."""

    side: str
    word: str
    """`bad` or `good`."""
    reward: float
    text: str
    place: str
    address: str


@dataclass(frozen=True, slots=True)
class TableCell:
    """What stands in a column of a line."""

    label: str
    """The column's name, for narrow screens."""
    kind: str
    width: str
    number: float | int | None = None
    pieces: Sequence[Piece] = ()
    whys: Sequence[Why] = ()


@dataclass(frozen=True, slots=True)
class TableLine:
    """A line of the table."""

    key: str
    address: str
    cells: list[TableCell]


@dataclass(frozen=True, slots=True)
class SourceLine:
    """What a run knows of a source as a whole."""

    name: str
    label: str
    is_shown: bool
    address: str
    count: int
    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    auroc: float | None
    auroc_range: str
    is_final: bool
    rule: str
    """Why it is cut as it is, and what the mask comes to; empty while nobody knows."""
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MetaFilter:
    """A field of the rows that can be filtered by: chosen from a list, or typed where it has many values."""

    name: str
    label: str
    value: str
    options: list[Option]


@dataclass(frozen=True, slots=True)
class ViewLink:
    """A saved view."""

    name: str
    address: str
    is_shown: bool
    delete_url: str


@dataclass(frozen=True, slots=True)
class Empty:
    """What is said where no pair is listed, and where to go from there."""

    sentence: str
    address: str | None
    action: str


@dataclass(frozen=True, slots=True)
class Explorer:
    """All that a filter draws anew."""

    action: str
    refresh_url: str
    is_scored: bool
    is_annotated: bool
    score_url: str
    notice: str | None
    runs: list[Option]
    sources: list[Option]
    source_lines: list[SourceLine]
    floor: Mapping[str, Any] | None
    """{auroc, low, high} of the policy's own log-probabilities; None where no labels tell it."""
    agreement: AgreementPanel
    """What people said, and which sources agree."""
    conflicts: ConflictPanel | None
    histograms: list[HistogramPanel]
    is_counted: bool
    """Whether the bars tell which pairs have the text; it may be in too many."""
    search: str
    within: list[Option]
    searched: str
    """What was searched, in words."""
    meta_filters: list[MetaFilter]
    labelled: list[Option]
    row_choices: list[Option]
    columns: list[Option]
    carried: list[tuple[str, str]]
    """Hidden fields of the form: the sort, and what only links change."""
    chips: list[FilterChip]
    clear_url: str | None
    views: list[ViewLink]
    save_url: str
    saved_query: str
    headings: list[Heading]
    rows: list[TableLine]
    total: str
    exports: list[tuple[str, str]]
    first_url: str | None
    next_url: str | None
    empty: Empty | None


@dataclass(frozen=True, slots=True)
class ExplorerFragment:
    """What a moved filter draws anew."""

    explorer: Explorer


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPage(PageContext):
    """The whole page."""

    name: str
    facts: list[tuple[str, str]]
    skipped: list[tuple[str, str]]
    """Line and reason of rows that the import left out."""
    skipped_count: int
    identical_count: int
    """Pairs whose sides say the same."""
    chosen_by: str
    """The rule by which its responses were preferred; empty where the rows said it."""
    left_out: list[str]
    """What the rule left out, in sentences."""
    is_scored: bool
    score_url: str
    train_url: str
    recipe_url: str
    runs_url: str
    labels_url: str
    masking: MaskingPanel | None
    """Whether masking helped to train on these pairs; None where nothing can tell."""
    delete_url: str
    explorer: Explorer


@router.get("/datasets/{dataset_id:int}", name="pages:dataset")
def show_dataset(request: Request, session: SessionDep, dataset_id: int) -> Response:
    """The data set under the run, filters, sort and columns of the address."""
    dataset = datasets.get_dataset(session, dataset_id)
    explorer = _Reader(request, session, dataset).explorer()
    page = DatasetPage(
        title=dataset.name,
        section="home",
        name=dataset.name,
        facts=_facts(dataset),
        skipped=[(f"line {row['line']}", str(row["reason"])) for row in dataset.skipped_rows[:100]],
        skipped_count=dataset.skipped_count,
        identical_count=dataset.origin.get("identical_sides", 0),
        chosen_by=dataset.origin.get("chosen_by", ""),
        left_out=dataset.origin.get("left_out", []),
        is_scored=explorer.is_scored,
        score_url=explorer.score_url,
        train_url=url_of(request, "training_new", {"dataset": dataset.id}),
        recipe_url=url_of(request, "recipe_new", {"dataset": dataset.id}),
        runs_url=url_of(request, "runs", {"dataset": dataset.id}),
        labels_url=url_of(request, "dataset_labels", dataset_id=dataset.id),
        delete_url=url_of(request, "dataset_delete", dataset_id=dataset.id),
        masking=masking_panel(request, session, dataset.id),
        explorer=explorer,
    )
    return render(request, "datasets/show.html", page)


@router.get("/datasets/{dataset_id:int}/explorer", name="pages:dataset_explorer")
def show_explorer(request: Request, session: SessionDep, dataset_id: int) -> Response:
    """What the filters draw anew, with the address of the page that shows the same."""
    reader = _Reader(request, session, datasets.get_dataset(session, dataset_id))
    fragment = ExplorerFragment(reader.explorer())
    address = reader.link(reader.query)
    headers = {_remembered_by(address, request.headers.get("HX-Current-URL", "")): address}
    return render(request, "datasets/_explorer.html", fragment, headers=headers)


def _remembered_by(address: str, current: str) -> str:
    """The header that tells the browser the new address: a filter that comes or goes is a step that one goes
    back from, one that only moves is not, or a slider would be many."""
    before, after = (
        sorted(parse_qs(urlsplit(one).query, keep_blank_values=False)) for one in (current, address)
    )
    return "HX-Replace-Url" if before == after else "HX-Push-Url"


@router.post("/datasets/{dataset_id:int}/views", name="pages:view_save")
def save_view(
    request: Request,
    session: SessionDep,
    dataset_id: int,
    name: Annotated[str, Form()] = "",
    query: Annotated[str, Form(max_length=8000)] = "",
) -> Response:
    """Saves the table of the address under a name, and shows it again."""
    asked = query_parameters(pair_query(dict(parse_qsl(query))))
    saved_views.save_view(session, dataset_id, name, {key: str(value) for key, value in asked.items()})
    return see_other(url_of(request, "dataset", asked, dataset_id=dataset_id))


@router.post("/datasets/{dataset_id:int}/views/{view_id:int}/delete", name="pages:view_delete")
def delete_view(
    request: Request,
    session: SessionDep,
    dataset_id: int,
    view_id: int,
    query: Annotated[str, Form(max_length=8000)] = "",
) -> Response:
    """Forgets a saved view, and shows the table as it was."""
    saved_views.delete_view(session, dataset_id, view_id)
    return see_other(url_of(request, "dataset", dict(parse_qsl(query)), dataset_id=dataset_id))


# ---------------------------------------------------------------------------------------- the whole explorer


class _Reader:
    """One request's data set and query, and the links that keep to them."""

    def __init__(self, request: Request, session: Session, dataset: Dataset) -> None:
        self.request, self.session, self.dataset = request, session, dataset
        self.found = scoring_runs(session, dataset.id)
        self.cursor = request.query_params.get("cursor") or None
        self.query = _asked(request, self.found)
        self.parameters = urlencode(query_parameters(self.query))

    def link(self, query: PairQuery) -> str:
        """The address of the page under another query."""
        return url_of(self.request, "dataset", query_parameters(query), dataset_id=self.dataset.id)

    def explorer(self) -> Explorer:
        """Everything below the head of the page."""
        request, session, dataset, query = self.request, self.session, self.dataset, self.query
        sources = maps.sources_of(session, query.run_id) if query.run_id is not None else []
        shown = next((one for one in sources if one.name == query.source), sources[0] if sources else None)
        named = query if shown is None else query.model_copy(update={"source": shown.name})
        run = next((run for run in self.found if run.id == query.run_id), None)
        page = pairs.list_pairs(session, dataset.id, query, limit=query.rows, cursor=self.cursor)
        meta = pair_columns(session, dataset).meta
        known = all_columns(query, list(meta))
        columns = shown_columns(query, known)
        is_whole = self.cursor is None and page.next_cursor is None
        passing = [row.pair.id for row in page.items] if is_whole else None
        bars = histograms.histograms(session, dataset.id, query, passing)
        parameters = query_parameters(query)
        clear = self.link(_bare(query)) if query != _bare(query) else None
        following = {**parameters, "cursor": page.next_cursor}
        return Explorer(
            action=url_of(request, "dataset", dataset_id=dataset.id),
            refresh_url=url_of(request, "dataset_explorer", dataset_id=dataset.id),
            is_scored=query.run_id is not None,
            is_annotated=dataset.annotated,
            score_url=url_of(request, "score", dataset_id=dataset.id),
            notice=_notice(run),
            runs=run_options(self.found, run) if run else [],
            sources=[Option(one.name, one.label, one is shown) for one in sources],
            source_lines=[self._source_line(one, one is shown) for one in sources],
            floor=(run.result or {}).get("surprisal") if run else None,
            agreement=agreement_panel(request, session, dataset.id, query.run_id),
            conflicts=self._conflicts(sources, named),
            histograms=panels(bars, query),
            is_counted=all(one.selected is not None for one in bars),
            search=query.query or "",
            within=[Option(value, label, value == query.within) for value, label in WITHIN],
            searched=_searched(query),
            meta_filters=_meta_filters(meta, query),
            labelled=[
                Option(value, label, value == _label_word(query.labelled)) for value, label in LABELLED
            ],
            row_choices=[Option(str(rows), f"{rows} rows", rows == query.rows) for rows in ROW_CHOICES],
            columns=[Option(written_columns([one.name]) or "", one.label, one in columns) for one in known],
            carried=_carried(query),
            chips=chips(named, {one.name: one.label for one in sources}, self.link),
            clear_url=clear,
            views=self._views(parameters),
            save_url=url_of(request, "view_save", dataset_id=dataset.id),
            saved_query=self.parameters,
            headings=headings(query, columns, self.link),
            rows=self._rows(page.items, columns),
            total=self._total(page.total),
            exports=self._exports(),
            first_url=self.link(query) if self.cursor else None,
            next_url=url_of(request, "dataset", following, dataset_id=dataset.id)
            if page.next_cursor
            else None,
            empty=None if page.items else self._empty(clear, run),
        )

    def _conflicts(self, sources: Sequence[RunSource], query: TableQuery) -> ConflictPanel | None:
        if query.run_id is None:
            return None
        counts = stances.stance_matrix(self.session, query.run_id)
        return conflict_panel(counts, sources, query, self.link) if any(one.total for one in counts) else None

    def _source_line(self, source: RunSource, is_shown: bool) -> SourceLine:
        numbers, found = source.numbers, source.localisation or {}
        low, high = found.get("low"), found.get("high")
        return SourceLine(
            name=source.name,
            label=source.label,
            is_shown=is_shown,
            address=self.link(self.query.model_copy(update={"source": source.name})),
            count=numbers.count,
            mean=numbers.mean,
            std=numbers.std,
            low=numbers.min,
            high=numbers.max,
            auroc=found.get("auroc"),
            auroc_range=f"{low:.3f} to {high:.3f}" if low is not None and high is not None else "",
            is_final=numbers.final,
            rule=source.about_rule,
            warnings=source.warnings,
        )

    def _views(self, parameters: dict[str, Any]) -> list[ViewLink]:
        now = {key: str(value) for key, value in parameters.items()}
        return [
            ViewLink(
                name=view.name,
                address=url_of(self.request, "dataset", _in_order(view.query), dataset_id=self.dataset.id),
                is_shown=view.query == now,
                delete_url=url_of(self.request, "view_delete", dataset_id=self.dataset.id, view_id=view.id),
            )
            for view in saved_views.list_views(self.session, self.dataset.id)
        ]

    def _exports(self) -> list[tuple[str, str]]:
        """All pairs of the table as a file: name and address."""
        path = self.request.app.url_path_for("list_pairs", dataset_id=self.dataset.id)
        asked = api_parameters(self.query)
        return [
            (name, f"{path}?{urlencode([*asked, ('format', kind)])}")
            for name, kind in (("CSV", "csv"), ("JSONL", "jsonl"))
        ]

    def _total(self, total: int | None) -> str:
        if total is None:
            return "Too many have the text to count them"
        whole = self.dataset.pair_count
        return counted(total, "pair") if total == whole else f"{count(total)} of {counted(whole, 'pair')}"

    def _empty(self, clear: str | None, run: Run | None) -> Empty:
        if self.cursor:
            return Empty("The table ends before this page.", self.link(self.query), "First page")
        if clear:
            return Empty(
                "No pair passes these filters. Remove one of them above, or all.", clear, "Clear the filters"
            )
        if run is None:
            return Empty("This data set has no pairs.", None, "")
        watch = url_of(self.request, "run", run_id=run.id)
        if JobStatus(run.job.status).is_over:
            return Empty(f"Run {run.id} ended before it had scored a pair.", watch, "See why")
        return Empty("The run has not scored any pair yet.", watch, "Watch the run")

    # ------------------------------------------------------------------------------------------- its table

    def _rows(self, found: Sequence[PairRow], columns: Sequence[PairColumn]) -> list[TableLine]:
        told: dict[int, Reason] = {}
        if self.query.run_id is not None and any(column.kind == "why" for column in columns):
            listed = [row.pair for row in found]
            told = reasons.reasons(self.session, self.query.run_id, self.query.source, listed)
        return [
            TableLine(
                key=row.pair.key,
                address=self._pair_url(row.pair.id),
                cells=[self._cell(row, told.get(row.pair.id), column) for column in columns],
            )
            for row in found
        ]

    def _pair_url(self, pair_id: int, at: str = "") -> str:
        """The page of a pair, under this table; what all of a page's have in common is written once."""
        path = url_of(self.request, "pair", pair_id=pair_id)
        return "?".join(filter(None, [path, "&".join(filter(None, [self.parameters, at]))]))

    def _cell(self, row: PairRow, reason: Reason | None, column: PairColumn) -> TableCell:
        if column.kind == "why":
            loud = [one for one in (reason, reason and reason.also) if one]
            whys = [self._why(row, one) for one in loud]
            return TableCell(column.label, "why", column.width, whys=whys)
        if column.kind == "meta":
            value = meta_text(row.pair.meta.get(column.name.removeprefix(META)))
            return TableCell(column.label, "meta", column.width, pieces=excerpt(value, SNIPPET))
        if column.kind == "text":
            wanted = self.query.query if self.query.within in ("any", column.name) else None
            pieces = excerpt(_text(row, column.name), SNIPPET, wanted)
            return TableCell(column.label, "text", column.width, pieces=pieces)
        number = getattr(row.score, column.name) if row.score else None
        return TableCell(column.label, column.kind, column.width, number=number)

    def _why(self, row: PairRow, reason: Reason) -> Why:
        last = reason.end - 1
        return Why(
            side=reason.side,
            word="bad" if reason.reward < 0 else "good",
            reward=reason.reward,
            text=shortened(reason.text, WHY_SNIPPET) or "the end of the response",
            place=f"token {last}" if reason.start == last else f"tokens {reason.start} to {last}",
            address=self._pair_url(row.pair.id, f"at={reason.side}-{reason.start}"),
        )


def _asked(request: Request, found: Sequence[Run]) -> TableQuery:
    """The query of the address, with what it leaves open: the best run, contradicting pairs first."""
    values = filled(request.query_params)
    if found and "run" not in values:
        values["run"] = str(default_run(found).id)
    if found and "sort" not in values and "descending" not in values:
        values["sort"] = "conflict"
    # A form sends a field for each column, a link has all of them in one.
    chosen = [name for one in request.query_params.getlist("columns") for name in read_columns(one)]
    values["columns"] = written_columns(chosen) or ""
    query = pair_query({name: value for name, value in values.items() if value})
    usual = [column.name for column in all_columns(query, ()) if column.by_default]
    if set(chosen) == set(usual):
        query = query.model_copy(update={"columns": None})
    if query.relation is None or query.against == query.source:
        # The form keeps the relation when another source is chosen, which cannot be held against itself.
        relation = None if query.against == query.source else query.relation
        query = query.model_copy(update={"against": PREFERENCE, "relation": relation})
    return query


def _in_order(parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters as the page itself would write them, so that equal views have equal addresses."""
    try:
        written = query_parameters(pair_query(parameters))
    except Invalid:  # What a program saved may mean nothing; its page says so.
        return parameters
    return written if {key: str(value) for key, value in written.items()} == parameters else parameters


def _bare(query: TableQuery) -> TableQuery:
    """The same table without filters."""
    kept = ("run_id", "source", "sort", "descending", "columns", "rows")
    return TableQuery(**{name: getattr(query, name) for name in kept})


def _carried(query: TableQuery) -> list[tuple[str, str]]:
    kept = ("sort", "descending", "contradicting", "relation", "against")
    parameters = query_parameters(query)
    return [(name, str(parameters[name])) for name in kept if name in parameters]


def _label_word(labelled: bool | None) -> str:
    return "" if labelled is None else str(int(labelled))


def _searched(query: TableQuery) -> str:
    if not query.query:
        return ""
    return (
        f"Searched {SEARCHED[query.within]} in any case, from the beginnings of words; where no word begins "
        "so, anywhere."
    )


def _meta_filters(meta: dict[str, MetaColumn] | Any, query: TableQuery) -> list[MetaFilter]:
    """The first fields of the data, and those that are asked for."""
    asked = dict(one.partition("=")[::2] for one in query.meta)
    listed = [key for index, key in enumerate(meta) if index < SHOWN_META or key in asked]
    return [_meta_filter(key, meta[key], asked.get(key)) for key in listed]


def _meta_filter(key: str, column: MetaColumn, asked: str | None) -> MetaFilter:
    counts = dict(zip(column.values, column.counts, strict=True))
    if len(counts) > SHOWN_VALUES:
        return MetaFilter(META + key, key, asked or "", [])
    options = [Option("", "any", asked is None)]
    options += [
        Option(value, f"{shortened(value, 40)} ({count(n)})", value == asked) for value, n in counts.items()
    ]
    if asked is not None and asked not in counts:
        options.append(Option(asked, f"{shortened(asked, 40)} (0)", True))
    return MetaFilter(META + key, key, asked or "", options)


def _text(row: PairRow, name: str) -> str | None:
    pair = row.pair
    if name == "chosen":
        return pair.chosen
    if name == "rejected":
        return pair.rejected
    if pair.messages is None:
        return pair.prompt
    return str(pair.messages[-1].get("content", "")) if pair.messages else ""


def _notice(run: Run | None) -> str | None:
    if run is None or run.job.status == "succeeded":
        return None
    if JobStatus(run.job.status).is_over:
        how = "was cancelled" if run.job.status == "cancelled" else run.job.status
        reason = (run.job.error or {}).get("detail")
        return f"Run {run.id} {how}; the table holds what it had scored. {reason or ''}".rstrip()
    return (
        f"Run {run.id} is {run.job.status}: the table holds the pairs that it has scored so far, cut by "
        "what was known when each came."
    )


def _facts(dataset: Dataset) -> list[tuple[str, str]]:
    told = [
        (f"{dataset.pair_count:,}", "pair" if dataset.pair_count == 1 else "pairs"),
        (f"{dataset.response_count:,}", "response" if dataset.response_count == 1 else "responses"),
    ]
    if dataset.annotated:
        told.append(("labelled", "spans"))
    if dataset.has_token_rewards:
        told.append(("token rewards", "in the data"))
    origin = dataset.origin
    place = origin.get("filename") or origin.get("path")
    told.append(("", " ".join(filter(None, [str(origin.get("kind", "")), shortened(place, 80)]))))
    if "split" in origin:
        told.append(("", f"split {origin['split']}"))
    return told
