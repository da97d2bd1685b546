"""Data sets: the table of pairs, bringing new ones in, scoring them, deleting them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from sqlalchemy.orm import Session

from rewardscope.app.db.models import Dataset, Run
from rewardscope.app.dependencies import SessionDep, SettingsDep
from rewardscope.app.errors import AppError, Invalid
from rewardscope.app.pages.forms import filled, validated
from rewardscope.app.pages.numbers import counted, shortened
from rewardscope.app.pages.rendering import Option, PageContext, render, see_other, url_of
from rewardscope.app.pages.scoring_runs import default_run, run_options, scoring_runs
from rewardscope.app.pages.table import Bound, Heading, bounds, headings, pair_query, query_parameters
from rewardscope.app.services import datasets, maps, models, pairs, scorings
from rewardscope.app.services.maps import RunSource
from rewardscope.app.services.pairs import PairQuery, PairRow
from rewardscope.app.services.scorings import ScoringRequest
from rewardscope.engine.errors import EngineError
from rewardscope.engine.sources.registry import SOURCES

ROWS = 50
SNIPPET = 160
NEEDS = {
    "policy": "a policy",
    "reference": "a reference",
    "reward_model": "a reward model",
    "spans": "labelled spans in the data",
    "external": "token rewards in the data",
}

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    key: str
    address: str
    conflict: float | None
    margin: float | None
    lowest: float | None
    highest: float | None
    pivots: int | None
    tokens: int | None
    prompt: str
    chosen: str
    rejected: str


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


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPage(PageContext):
    """The table, or the invitation to score."""

    name: str
    facts: list[tuple[str, str]]
    skipped: list[tuple[str, str]]
    """Line and reason of rows that the import left out."""
    skipped_count: int
    score_url: str
    train_url: str
    recipe_url: str
    delete_url: str
    is_scored: bool
    runs: list[Option]
    sources: list[Option]
    source_lines: list[SourceLine]
    is_annotated: bool
    headings: list[Heading]
    bounds: list[Bound]
    search: str
    only_contradicting: bool
    bounds_are_open: bool
    carried: list[tuple[str, str]]
    """Hidden fields of the filter form: the sort."""
    rows: list[Row]
    total: str
    clear_url: str | None
    first_url: str | None
    next_url: str | None
    notice: str | None


@dataclass(frozen=True, slots=True)
class RowFault:
    """A row of an upload that cannot be used."""

    line: str
    field: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPage(PageContext):
    """The form that brings a data set in, with what was wrong the last time."""

    action: str
    name: str
    folder: str
    skips: bool
    max_upload_mib: int
    problem: str | None
    faults: list[RowFault]


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """A source that can be asked for."""

    name: str
    label: str
    needs: str
    description: str
    checked: bool
    available: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePage(PageContext):
    """The form that submits a scoring."""

    dataset_name: str
    dataset_url: str
    action: str
    causal_models: list[str]
    reward_models: list[str]
    values: dict[str, str]
    choices: list[SourceChoice]
    problem: str | None
    models_url: str


@router.get("/datasets/new", name="pages:dataset_new")
def show_upload(request: Request, settings: SettingsDep) -> Response:
    """The form that brings a data set in."""
    return render(request, "datasets/new.html", _upload_page(request, settings.max_upload_mib))


@router.post("/datasets", name="pages:dataset_create")
def create_dataset(
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    file: Annotated[UploadFile | None, File()] = None,
    folder: Annotated[str, Form()] = "",
    name: Annotated[str, Form()] = "",
    on_error: Annotated[str, Form()] = "fail",
) -> Response:
    """Brings a data set in whole, or shows the rows that are wrong and stores nothing."""
    skips = on_error == "skip"
    policy: datasets.OnError = "skip" if skips else "fail"
    try:
        # A savepoint: what a refused import began is gone before the page that says why is drawn.
        with session.begin_nested():
            if file is not None and file.filename:
                dataset = datasets.import_file(
                    session,
                    file.file,
                    file.filename,
                    settings=settings,
                    name=name.strip() or None,
                    on_error=policy,
                )
            elif folder.strip():
                dataset = datasets.import_folder(
                    session, folder.strip(), settings=settings, name=name.strip() or None, on_error=policy
                )
            else:
                raise Invalid("Choose a file, or name a folder that the server can read.")
    except (AppError, EngineError) as error:
        page = _upload_page(request, settings.max_upload_mib)
        page = replace(
            page, name=name, folder=folder, skips=skips, problem=_sentence(error), faults=faults_of(error)
        )
        return render(request, "datasets/new.html", page, status=_status_of(error))
    return see_other(url_of(request, "dataset", dataset_id=dataset.id))


@router.get("/datasets/{dataset_id:int}", name="pages:dataset")
def show_dataset(request: Request, session: SessionDep, dataset_id: int) -> Response:
    """The table of pairs under the run, sort and filters of the address."""
    dataset = datasets.get_dataset(session, dataset_id)
    values = filled(request.query_params)
    found = scoring_runs(session, dataset_id)
    if found and "run" not in values:
        values["run"] = str(default_run(found).id)
    if found and "sort" not in values and "descending" not in values:
        values["sort"] = "conflict"
    query = pair_query(values)
    return render(
        request, "datasets/show.html", _page(request, session, dataset, query, found, values.get("cursor"))
    )


@router.post("/datasets/{dataset_id:int}/delete", name="pages:dataset_delete")
def delete_dataset(request: Request, session: SessionDep, dataset_id: int) -> Response:
    """Deletes the data set with its runs."""
    datasets.delete_dataset(session, dataset_id)
    return see_other(url_of(request, "home"))


@router.get("/datasets/{dataset_id:int}/score", name="pages:score")
def show_score_form(request: Request, session: SessionDep, dataset_id: int) -> Response:
    """The form that submits a scoring."""
    dataset = datasets.get_dataset(session, dataset_id)
    values = _models_of(scoring_runs(session, dataset_id))
    return render(request, "datasets/score.html", _score_page(request, session, dataset, values, ()))


@router.post("/datasets/{dataset_id:int}/score", name="pages:score_submit")
def submit_scoring(
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    dataset_id: int,
    policy: Annotated[str, Form()] = "",
    reference: Annotated[str, Form()] = "",
    reward_model: Annotated[str, Form()] = "",
    beta: Annotated[str, Form()] = "",
    name: Annotated[str, Form()] = "",
    sources: Annotated[list[str] | None, Form()] = None,
) -> Response:
    """Queues the scoring and leads to its run, or shows the form again with what is wrong."""
    dataset = datasets.get_dataset(session, dataset_id)
    fields = {
        "policy": policy.strip(),
        "reference": reference.strip(),
        "reward_model": reward_model.strip(),
        "beta": beta.strip(),
        "name": name.strip(),
    }
    wanted: dict[str, Any] = {field: value for field, value in fields.items() if value}
    try:
        with session.begin_nested():
            asked = validated(
                ScoringRequest, {**wanted, "dataset_id": dataset_id, "sources": sources or None}, "body"
            )
            run = scorings.submit(session, settings, asked)
    except (AppError, EngineError) as error:
        page = _score_page(request, session, dataset, fields, sources or (), _sentence(error))
        return render(request, "datasets/score.html", page, status=_status_of(error))
    return see_other(url_of(request, "run", run_id=run.id))


# ----------------------------------------------------------------------------------------------- the table


def _page(
    request: Request,
    session: Session,
    dataset: Dataset,
    query: PairQuery,
    found: Sequence[Run],
    cursor: str | None,
) -> DatasetPage:
    def link(other: PairQuery) -> str:
        return url_of(request, "dataset", query_parameters(other), dataset_id=dataset.id)

    page = pairs.list_pairs(session, dataset.id, query, limit=ROWS, cursor=cursor)
    sources = maps.sources_of(session, query.run_id) if query.run_id is not None else []
    shown = next((s for s in sources if s.name == query.source), sources[0] if sources else None)
    run = next((run for run in found if run.id == query.run_id), None)
    bare = PairQuery(run_id=query.run_id, source=query.source, sort=query.sort, descending=query.descending)
    is_filtered = query != bare
    following = {**query_parameters(query), "cursor": page.next_cursor}
    kept = {name: str(value) for name, value in query_parameters(bare).items()}
    return DatasetPage(
        title=dataset.name,
        section="home",
        name=dataset.name,
        facts=_facts(dataset),
        skipped=[(f"line {row['line']}", str(row["reason"])) for row in dataset.skipped_rows[:100]],
        skipped_count=dataset.skipped_count,
        score_url=url_of(request, "score", dataset_id=dataset.id),
        train_url=url_of(request, "training_new", {"dataset": dataset.id}),
        recipe_url=url_of(request, "recipe_new", {"dataset": dataset.id}),
        delete_url=url_of(request, "dataset_delete", dataset_id=dataset.id),
        is_scored=query.run_id is not None,
        runs=run_options(found, run) if run else [],
        sources=[Option(s.name, s.label, s is shown) for s in sources],
        source_lines=[_source_line(s, s is shown, link, query) for s in sources],
        is_annotated=dataset.annotated,
        headings=headings(query, link) if query.run_id is not None else [],
        bounds=bounds(query) if query.run_id is not None else [],
        search=query.query or "",
        only_contradicting=query.only_contradicting,
        bounds_are_open=query.filters_by_score
        and query
        != bare.model_copy(update={"only_contradicting": query.only_contradicting, "query": query.query}),
        carried=[(name, value) for name, value in kept.items() if name in ("sort", "descending")],
        rows=[_row(request, row, query) for row in page.items],
        total="" if page.total is None else counted(page.total, "pair"),
        clear_url=link(bare) if is_filtered else None,
        first_url=link(query) if cursor else None,
        next_url=url_of(request, "dataset", following, dataset_id=dataset.id) if page.next_cursor else None,
        notice=_notice(run),
    )


def _notice(run: Run | None) -> str | None:
    if run is None or run.job.status == "succeeded":
        return None
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
    return told


def _source_line(source: RunSource, is_shown: bool, link: Any, query: PairQuery) -> SourceLine:
    numbers, found = source.numbers, source.localisation or {}
    low, high = found.get("low"), found.get("high")
    return SourceLine(
        name=source.name,
        label=source.label,
        is_shown=is_shown,
        address=link(query.model_copy(update={"source": source.name})),
        count=numbers.count,
        mean=numbers.mean,
        std=numbers.std,
        low=numbers.min,
        high=numbers.max,
        auroc=found.get("auroc"),
        auroc_range=f"{low:.3f} to {high:.3f}" if low is not None and high is not None else "",
        is_final=numbers.final,
    )


def _row(request: Request, row: PairRow, query: PairQuery) -> Row:
    pair, score = row.pair, row.score
    last_turn = str(pair.messages[-1].get("content", "")) if pair.messages else ""
    return Row(
        key=pair.key,
        address=url_of(request, "pair", query_parameters(query), pair_id=pair.id),
        conflict=score.conflict if score else None,
        margin=score.margin if score else None,
        lowest=score.min_reward if score else None,
        highest=score.max_reward if score else None,
        pivots=score.pivots if score else None,
        tokens=score.tokens if score else None,
        prompt=shortened(pair.prompt if pair.messages is None else last_turn, SNIPPET),
        chosen=shortened(pair.chosen, SNIPPET),
        rejected=shortened(pair.rejected, SNIPPET),
    )


# ------------------------------------------------------------------------------------------------- the forms


def _upload_page(request: Request, max_upload_mib: int) -> UploadPage:
    return UploadPage(
        title="New data set",
        section="home",
        action=url_of(request, "dataset_create"),
        name="",
        folder="",
        skips=False,
        max_upload_mib=max_upload_mib,
        problem=None,
        faults=[],
    )


def _score_page(
    request: Request,
    session: Session,
    dataset: Dataset,
    values: dict[str, str],
    chosen: Sequence[str],
    problem: str | None = None,
) -> ScorePage:
    known = models.list_models(session, limit=500).items
    columns = {"spans": dataset.annotated, "external": dataset.has_token_rewards}
    blank = {"policy": "", "reference": "", "reward_model": "", "beta": "", "name": ""}
    return ScorePage(
        title=f"Score {dataset.name}",
        section="home",
        dataset_name=dataset.name,
        dataset_url=url_of(request, "dataset", dataset_id=dataset.id),
        action=url_of(request, "score_submit", dataset_id=dataset.id),
        causal_models=[model.name for model in known if model.kind == "causal_lm"],
        reward_models=[model.name for model in known if model.kind == "sequence_classifier"],
        values={**blank, **values},
        choices=[
            SourceChoice(
                name=source.name,
                label=source.label,
                needs=" and ".join(sorted(NEEDS[need] for need in source.needs)),
                description=source.description,
                checked=source.name in chosen,
                available=all(columns.get(need, True) for need in source.needs),
            )
            for source in SOURCES.values()
        ],
        problem=problem,
        models_url=url_of(request, "models"),
    )


def _models_of(found: Sequence[Run]) -> dict[str, str]:
    """The models of the newest run, by which one scores again more often than not."""
    asked = found[0].request if found else {}
    roles = ("policy", "reference", "reward_model")
    return {role: str(asked[role]["name"]) for role in roles if asked.get(role)}


def _sentence(error: AppError | EngineError) -> str:
    return error.detail if isinstance(error, AppError) else str(error)


def _status_of(error: AppError | EngineError) -> int:
    return error.status if isinstance(error, AppError) else 422


def faults_of(error: AppError | EngineError) -> list[RowFault]:
    """The rows of an import that cannot be used: places such as ("line", 12, "chosen")."""
    if not isinstance(error, AppError):
        return []
    return [
        RowFault(
            line=str(fault.loc[1]), field=str(fault.loc[2]) if len(fault.loc) > 2 else "", reason=fault.msg
        )
        for fault in error.errors
        if fault.loc[:1] == ("line",) and len(fault.loc) > 1
    ]
