"""Data sets: bringing new ones in, scoring them, deleting them. Their page is `explorer`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Request, Response, UploadFile
from sqlalchemy.orm import Session

from app.db.tables import Dataset, Run
from app.dependencies import SessionDep, SettingsDep
from app.errors import AppError, Invalid, sentence_of, status_of
from app.pages.parts.forms import validated
from app.pages.parts.rendering import PageContext, render, see_other, url_of
from app.pages.parts.scoring_runs import scoring_runs
from app.services.datasets import datasets, previews
from app.services.models import models
from app.services.scorings import scorings
from app.services.scorings.scorings import ScoringRequest
from app.settings import Settings
from engine.errors import EngineError
from engine.formats.listing import ENDINGS, file_labels
from engine.inspection.rows import RowsSeen, Turn, turns_of
from engine.sources.registry import COLUMNS, SOURCES, Need, Source, need_in_words

router = APIRouter()

NOTHING_NAMED = "Choose a file, or name a folder that the server can read."


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
    preview_action: str
    name: str
    folder: str
    split: str
    chosen_by: str
    skips: bool
    max_upload_mib: int
    file_types: str
    accept: str
    problem: str | None
    faults: list[RowFault]


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """A row as it will be read."""

    key: str
    turns: list[Turn]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewPage(PageContext):
    """What would be read of a file, and the button that brings it in."""

    action: str
    back_url: str
    called: str
    ticket: str
    folder: str
    split: str
    name: str
    chosen_by: str
    skips: bool
    seen: RowsSeen
    rows: list[PreviewRow]


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


@dataclass(frozen=True, slots=True)
class ImportForm:
    """What the form of an import says, and that of its preview again."""

    file: Annotated[UploadFile | None, File()] = None
    folder: Annotated[str, Form()] = ""
    split: Annotated[str, Form()] = ""
    name: Annotated[str, Form()] = ""
    on_error: Annotated[str, Form()] = "fail"
    chosen_by: Annotated[str, Form()] = ""

    @property
    def skips(self) -> bool:
        """Whether rows that cannot be used are left out."""
        return self.on_error == "skip"

    def typed(self) -> dict[str, Any]:
        """What was typed, for the form that is shown again."""
        names = ("name", "folder", "split", "chosen_by", "skips")
        return {name: getattr(self, name) for name in names}


ImportFormDep = Annotated[ImportForm, Depends()]


@router.get("/datasets/new", name="pages:dataset_new")
def show_upload(request: Request, settings: SettingsDep) -> Response:
    """The form that brings a data set in."""
    return render(request, "datasets/new.html", _upload_page(request, settings.max_upload_mib))


@router.post("/datasets/preview", name="pages:dataset_preview")
def preview_dataset(request: Request, settings: SettingsDep, form: ImportFormDep) -> Response:
    """Shows what an import would read, and stores nothing; the file waits for the decision."""
    rule, split = form.chosen_by.strip() or None, form.split.strip() or None
    ticket, called = "", form.folder.strip()
    try:
        if form.file is not None and form.file.filename:
            _refuse_split(split)
            called = form.file.filename
            seen = previews.preview_file(form.file.file, called, chosen_by=rule)
            ticket = previews.keep(settings, form.file.file, called)
        elif called:
            seen = previews.preview_folder(called, settings=settings, chosen_by=rule, split=split)
        else:
            raise Invalid(NOTHING_NAMED)
    except (AppError, EngineError) as error:
        return _refused(request, settings, error, form)
    page = PreviewPage(
        title="Preview",
        section="home",
        action=url_of(request, "dataset_create"),
        back_url=url_of(request, "dataset_new"),
        called=called,
        ticket=ticket,
        seen=seen,
        rows=[PreviewRow(pair.key, turns_of(pair)) for pair in seen.first],
        **{**form.typed(), "folder": "" if ticket else called},
    )
    return render(request, "datasets/preview.html", page)


@router.post("/datasets", name="pages:dataset_create")
def create_dataset(
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    form: ImportFormDep,
    ticket: Annotated[str, Form()] = "",
) -> Response:
    """Brings a data set in whole, or shows the rows that are wrong and stores nothing."""
    folder, split = form.folder.strip(), form.split.strip() or None
    asked: dict[str, Any] = {
        "settings": settings,
        "name": form.name.strip() or None,
        "on_error": "skip" if form.skips else "fail",
        "chosen_by": form.chosen_by.strip() or None,
    }
    try:
        # A savepoint: what a refused import began is gone before the page that says why is drawn.
        with session.begin_nested():
            if form.file is not None and form.file.filename:
                _refuse_split(split)
                dataset = datasets.import_file(session, form.file.file, form.file.filename, **asked)
            elif ticket:
                place, filename = previews.kept(settings, ticket)
                with place.open("rb") as waiting:
                    dataset = datasets.import_file(session, waiting, filename, **asked)
            elif folder:
                dataset = datasets.import_folder(session, folder, split=split, **asked)
            else:
                raise Invalid(NOTHING_NAMED)
    except (AppError, EngineError) as error:
        return _refused(request, settings, error, form)
    previews.forget(settings, ticket)
    return see_other(url_of(request, "dataset", dataset_id=dataset.id))


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
    return render(request, "scorings/new.html", _score_page(request, session, dataset, values, ()))


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
        page = _score_page(request, session, dataset, fields, sources or (), sentence_of(error))
        return render(request, "scorings/new.html", page, status=status_of(error))
    return see_other(url_of(request, "run", run_id=run.id))


# ------------------------------------------------------------------------------------------------- the forms


def _refused(
    request: Request, settings: Settings, error: AppError | EngineError, form: ImportForm
) -> Response:
    """The form again, with what was wrong."""
    page = _upload_page(request, settings.max_upload_mib)
    page = replace(page, problem=sentence_of(error), faults=faults_of(error), **form.typed())
    return render(request, "datasets/new.html", page, status=status_of(error))


def _refuse_split(split: str | None) -> None:
    """Raises Invalid where a split of a file is asked for."""
    if split is not None:
        raise Invalid("A file has no splits: leave Split empty, or name a folder on the server.")


def _upload_page(request: Request, max_upload_mib: int) -> UploadPage:
    return UploadPage(
        title="New data set",
        section="home",
        action=url_of(request, "dataset_create"),
        preview_action=url_of(request, "dataset_preview"),
        name="",
        folder="",
        split="",
        chosen_by="",
        skips=False,
        max_upload_mib=max_upload_mib,
        file_types=file_labels(),
        accept=",".join(ENDINGS),
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
    columns = datasets.columns_of(dataset)
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
                label=source.title,
                needs=_needs(source, columns),
                description=" ".join(filter(None, (source.sentence, source.cost, source.cannot_show))),
                checked=source.name in chosen,
                available=columns.issuperset(source.columns),
            )
            for source in SOURCES.values()
        ],
        problem=problem,
        models_url=url_of(request, "models"),
    )


def _needs(source: Source, columns: Collection[Need]) -> str:
    """What a source needs, in words, and what of these data stands in its place."""
    words = " and ".join(map(need_in_words, (*source.models, *source.columns)))
    if source.instead is None or source.instead not in columns:
        return words
    return f"{words}, or no model at all: these data bring {COLUMNS[source.instead]}"


def _models_of(found: Sequence[Run]) -> dict[str, str]:
    """The models of the newest run, by which one scores again more often than not."""
    asked = found[0].request if found else {}
    roles = ("policy", "reference", "reward_model")
    return {role: str(asked[role]["name"]) for role in roles if asked.get(role)}


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
