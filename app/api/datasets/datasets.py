"""Data sets: uploaded or named by folder, listed, looked into, deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import JSONResponse

from app.api.parts import lists, uploads
from app.api.parts.common import PREFIX, Id, View, door
from app.api.parts.idempotency import Done, OnceDep
from app.api.parts.lists import Listing, PagingDep
from app.api.parts.uploads import FileForm, Upload, openapi_body
from app.db.tables import Dataset
from app.dependencies import DatabaseDep, SessionDep, SettingsDep
from app.problems import responses
from app.services.datasets import datasets, previews
from app.services.paging import Page
from app.services.pairs import histograms, pairs, saved_views, stances
from app.services.pairs.histograms import Histogram
from app.services.pairs.pairs import PairQuery, PairRow
from app.services.pairs.stances import StanceCount
from engine.fields import StrictModel, shown

OnError = Literal["fail", "skip"]


class _Import(StrictModel):
    name: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        title="Name",
        json_schema_extra=shown(blank="as the file or folder is called"),
    )
    """What the data set is called."""
    on_error: OnError = "fail"
    """`fail`: one bad row refuses all of them. `skip`: bad rows are left out and counted."""
    chosen_by: str | None = Field(None, min_length=1, max_length=200, title="Chosen by")
    """Which of single, scored responses are preferred: `reward` compares the responses to a prompt,
    `reward>0.5` takes those above for chosen and the others for rejected. Null where the rows say it."""


class FolderImport(_Import):
    """A folder or file that the server can read."""

    folder: str = Field(min_length=1, max_length=4096)
    """Its path on the server."""
    split: str | None = Field(None, min_length=1, max_length=200, title="Split")
    """Which split of a folder with several is read, such as `train`; they are never read together."""


class FileImport(_Import, FileForm):
    """The form that comes with a file of preference pairs."""


class SkippedRow(View):
    """A row that was left out."""

    line: int
    field: str | None
    reason: str


class PreviewView(View):
    """A file of rows, as it would be read."""

    file_type: str
    """JSONL, CSV, Parquet and so on: told by the content."""
    row_formats: dict[str, int]
    """How many rows came in which row format."""
    columns_read: list[str]
    columns_left: list[str]
    """Columns that nothing reads; they are kept beside the pairs."""
    rows: int
    refused: int
    refusals: list[SkippedRow]
    """The first twenty."""
    pairs: int
    """Rows with both sides."""
    identical_sides: int
    """Pairs whose sides say the same."""
    labelled: int
    """Rows with labelled spans."""
    with_token_rewards: int
    with_tools: int
    odd: list[str]
    """What one would want to know before going on."""
    first_rows: list[dict[str, Any]]


class DatasetSummary(View):
    """A preference data set as it was brought."""

    id: int
    name: str
    origin: dict[str, Any]
    content_hash: str
    pair_count: int
    response_count: int
    annotated: bool
    has_token_rewards: bool
    skipped_count: int
    created_at: datetime


class DatasetView(DatasetSummary):
    """A data set with the rows that were left out, at most 1,000 of them."""

    skipped_rows: list[SkippedRow]


class ScoreView(View):
    """What a run found of a pair by one source; null where it cannot be said."""

    run_id: int
    source: str
    margin: float | None
    min_reward: float | None
    max_reward: float | None
    pivots: int
    conflict: float | None
    kept_chosen: float | None
    kept_rejected: float | None
    tokens: int


class PairView(View):
    """A pair as it was brought, and what a run found of it."""

    id: int
    dataset_id: int
    position: int
    key: str
    prompt: str | None
    messages: list[Any] | None
    chosen: str | None
    rejected: str | None
    chosen_extras: dict[str, Any] | None
    rejected_extras: dict[str, Any] | None
    meta: dict[str, Any]
    score: ScoreView | None

    @classmethod
    def of(cls, row: PairRow) -> PairView:
        """The view of a line of the table."""
        columns = {name: getattr(row.pair, name) for name in cls.model_fields if name != "score"}
        return cls(**columns, score=None if row.score is None else ScoreView.model_validate(row.score))


class HistogramsView(View):
    """The spread of what the table of pairs sorts by."""

    data: list[Histogram]


class ConflictMatrix(View):
    """Every source of a run against the preference and against those asked for before it. The pairs of a
    number are listed with `source`, `against` and `relation`."""

    data: list[StanceCount]


class SavedViewBody(StrictModel):
    """A table of pairs to find again."""

    name: str = Field(min_length=1, max_length=100)
    """What the view is called."""
    query: dict[str, str] = Field(max_length=64)
    """Parameters of the page's address, such as {"sort": "margin", "max_margin": "0"}."""


class SavedViewView(View):
    """A saved table of pairs."""

    id: int
    dataset_id: int
    name: str
    query: dict[str, str]
    created_at: datetime


class SavedViews(View):
    """All saved views of a data set, by their names."""

    data: list[SavedViewView]


async def read_body(request: Request) -> AsyncIterator[Upload[FileImport] | FolderImport]:
    """The upload, or the folder that the body names. Raises RequestValidationError, HTTPException (415)."""
    otherwise = "Send a file as multipart/form-data, or a folder as application/json."
    async with uploads.read_body(request, FileImport, FolderImport, otherwise) as body:
        yield body


BodyDep = Annotated[Upload[FileImport] | FolderImport, Depends(read_body)]

router = door("datasets")


@router.post(
    "",
    status_code=201,
    response_model=DatasetView,
    responses=responses(409, 415, 507),
    openapi_extra=openapi_body(FileImport, FolderImport),
)
def create_dataset(body: BodyDep, session: SessionDep, settings: SettingsDep, once: OnceDep) -> JSONResponse:
    """Brings a data set in: all of it or nothing, unless `on_error` is `skip`."""
    if isinstance(body, Upload):
        upload = body
        return once.answer(
            session,
            upload.payload(),
            lambda: _created(
                datasets.import_file(
                    session,
                    upload.file,
                    upload.filename,
                    settings=settings,
                    name=upload.form.name,
                    on_error=upload.form.on_error,
                    chosen_by=upload.form.chosen_by,
                )
            ),
        )
    return once.answer(
        session,
        body.model_dump_json().encode(),
        lambda: _created(
            datasets.import_folder(
                session,
                body.folder,
                settings=settings,
                name=body.name,
                on_error=body.on_error,
                chosen_by=body.chosen_by,
                split=body.split,
            )
        ),
    )


@router.post(
    "/preview",
    responses=responses(403, 415),
    openapi_extra=openapi_body(FileImport, FolderImport),
)
def preview_dataset(body: BodyDep, settings: SettingsDep) -> PreviewView:
    """What `POST /datasets` would read of the same body, with its first rows; nothing is stored."""
    if isinstance(body, Upload):
        seen = previews.preview_file(body.file, body.filename, chosen_by=body.form.chosen_by)
    else:
        seen = previews.preview_folder(
            body.folder, settings=settings, chosen_by=body.chosen_by, split=body.split
        )
    return PreviewView.model_validate(seen.as_row())


def _created(dataset: Dataset) -> Done:
    view = DatasetView.model_validate(dataset)
    return Done(201, view, {"Location": f"{PREFIX}/datasets/{dataset.id}"})


@router.get("", response_model=Listing[DatasetSummary], responses=lists.FILES)
def list_datasets(paging: PagingDep, database: DatabaseDep) -> Any:
    """Data sets, newest first."""

    def fetch(session: Session, limit: int, cursor: str | None) -> Page[DatasetSummary]:
        page = datasets.list_datasets(session, limit=limit, cursor=cursor)
        rows = [DatasetSummary.model_validate(dataset) for dataset in page.items]
        return Page(rows, page.next_cursor, page.total)

    return lists.answer(database, paging, fetch, DatasetSummary, "datasets")


@router.get("/{dataset_id}")
def read_dataset(dataset_id: Id, session: SessionDep) -> DatasetView:
    """One data set."""
    return DatasetView.model_validate(datasets.get_dataset(session, dataset_id))


@router.delete("/{dataset_id}", status_code=204, responses=responses(409))
def delete_dataset(dataset_id: Id, session: SessionDep) -> None:
    """Removes a data set with its pairs and runs, unless a job works on it."""
    datasets.delete_dataset(session, dataset_id)


def pair_query(query: Annotated[PairQuery, Query()]) -> PairQuery:
    """Which pairs are wanted, in which order: a dependency of its own, since FastAPI takes one model each."""
    return query


@router.get("/{dataset_id}/pairs", response_model=Listing[PairView], responses=lists.FILES)
def list_pairs(
    dataset_id: Id,
    query: Annotated[PairQuery, Depends(pair_query)],
    paging: PagingDep,
    database: DatabaseDep,
) -> Any:
    """Pairs of a data set, sorted and filtered by what a run found."""

    def fetch(session: Session, limit: int, cursor: str | None) -> Page[PairView]:
        page = pairs.list_pairs(session, dataset_id, query, limit=limit, cursor=cursor)
        return Page([PairView.of(row) for row in page.items], page.next_cursor, page.total)

    return lists.answer(database, paging, fetch, PairView, f"pairs-{dataset_id}")


@router.get("/{dataset_id}/histograms")
def read_histograms(
    dataset_id: Id, query: Annotated[PairQuery, Depends(pair_query)], session: SessionDep
) -> HistogramsView:
    """The spread of a run's numbers, of all its pairs and of those that the filters of the table leave."""
    return HistogramsView(data=histograms.histograms(session, dataset_id, query))


@router.get("/{dataset_id}/conflicts")
def read_conflicts(
    dataset_id: Id, run_id: Annotated[int, Query(ge=1, le=2**63 - 1)], session: SessionDep
) -> ConflictMatrix:
    """Which sources of a run agree with the preference and with each other, and on how many pairs."""
    dataset = datasets.get_dataset(session, dataset_id)
    pairs.selection(session, dataset, PairQuery(run_id=run_id))
    return ConflictMatrix(data=stances.stance_matrix(session, run_id))


@router.get("/{dataset_id}/views")
def list_views(dataset_id: Id, session: SessionDep) -> SavedViews:
    """Saved views of a data set."""
    found = saved_views.list_views(session, dataset_id)
    return SavedViews(data=[SavedViewView.model_validate(view) for view in found])


@router.post("/{dataset_id}/views", status_code=201, responses=responses(409))
def save_view(dataset_id: Id, body: SavedViewBody, session: SessionDep) -> SavedViewView:
    """Saves a view; one of the same name is replaced."""
    return SavedViewView.model_validate(saved_views.save_view(session, dataset_id, body.name, body.query))


@router.delete("/{dataset_id}/views/{view_id}", status_code=204)
def delete_view(dataset_id: Id, view_id: Id, session: SessionDep) -> None:
    """Forgets a saved view."""
    saved_views.delete_view(session, dataset_id, view_id)
