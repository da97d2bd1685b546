"""Data sets: brought in all or nothing, listed, deleted, and written out for jobs."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from sqlalchemy import Row, exists, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.bulk import copy_rows
from app.db.tables import Dataset, Job, JobStatus, Pair, Run
from app.errors import Conflict, Invalid, NotFound, Problem, StorageFull
from app.services.names import clean_name, file_name, name_of_file
from app.services.paging import DEFAULT_LIMIT, Page, decode_cursor, encode_cursor, page_limit
from app.services.roots import check_files, readable, unreadable
from app.services.runs.folders import remove_with
from app.settings import MIB, Settings
from engine.apart import read_apart
from engine.errors import RowError
from engine.formats.atomic import atomic_file
from engine.formats.canonical import json_line
from engine.formats.chosen_by import ChosenBy
from engine.formats.folders import members
from engine.formats.pairs import pair_to_row
from engine.sources.registry import Need, brought_by
from engine.types import SIDES, PreferencePair

OnError = Literal["fail", "skip"]
"""`fail`: one bad row refuses all. `skip`: bad rows are left out, counted and kept as notes."""
SHOWN_ERRORS = 100
KEPT_SKIPS = 1000
ACTIVE = (JobStatus.queued, JobStatus.running)
_EXTRAS = ("spans", "token_rewards", "token_offsets", "logprobs", "ref_logprobs", "turns")
_COLUMNS = (
    "dataset_id",
    "position",
    "key",
    "prompt",
    "messages",
    "chosen",
    "rejected",
    "chosen_extras",
    "rejected_extras",
    "meta",
)


def import_rows(
    session: Session,
    rows: Iterable[PreferencePair | RowError],
    *,
    name: str,
    origin: dict[str, Any],
    on_error: OnError = "fail",
) -> Dataset:
    """A new data set of `rows`, streamed; whatever is raised, nothing of it stays.

    Raises Conflict (the name is taken) and Invalid (a bad row, with up to 100 errors at ("line", n[, field]),
    or no row at all).
    """
    with session.begin_nested():
        dataset = _named_dataset(session, clean_name(name, "A data set"), origin)
        census = _Census(on_error)
        _copy_pairs(session, dataset.id, census.passing(rows))
        census.check()
        census.describe(dataset)
        session.flush()
    return dataset


def import_file(
    session: Session,
    file: BinaryIO,
    filename: str,
    *,
    settings: Settings,
    name: str | None = None,
    on_error: OnError = "fail",
    chosen_by: str | None = None,
) -> Dataset:
    """A new data set from an uploaded file, whose format its name and content tell.

    `name` defaults to the file's; `chosen_by` says which of single, scored responses are preferred. Raises as
    `import_rows`, DataError (no file of pairs), RequestError (the rule), and StorageFull.
    """
    check_disk(settings)
    called = file_name(filename)
    origin = {"kind": "upload", "filename": called}
    rule = None if chosen_by is None else ChosenBy.parse(chosen_by)
    rows = read_apart(file, called, rule)
    dataset = import_rows(session, rows, name=name or name_of_file(called), origin=origin, on_error=on_error)
    return _with_rule(dataset, rule)


def _with_rule(dataset: Dataset, rule: ChosenBy | None) -> Dataset:
    """The data set, with the rule by which its responses were preferred, and what that left out."""
    if rule is not None:
        dataset.origin = {**dataset.origin, "chosen_by": str(rule), "left_out": rule.told()}
    return dataset


def import_folder(
    session: Session,
    path: str | Path,
    *,
    settings: Settings,
    name: str | None = None,
    on_error: OnError = "fail",
    chosen_by: str | None = None,
    split: str | None = None,
) -> Dataset:
    """A new data set from a folder, of which `split` names a split, or from a file that the server sees.
    Raises as `import_file`."""
    check_disk(settings)
    place = readable_data(path, settings, split)
    origin = {"kind": "folder", "path": str(place)} | ({} if split is None else {"split": split})
    rule = None if chosen_by is None else ChosenBy.parse(chosen_by)
    try:
        rows = read_apart(place, chosen_by=rule, split=split)
        dataset = import_rows(
            session,
            rows,
            name=name or name_of_file(place.name),
            origin=origin,
            on_error=on_error,
        )
        return _with_rule(dataset, rule)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise unreadable(place, f"cannot be read ({error.strerror or error})", "folder") from error


def readable_data(path: str | Path, settings: Settings, split: str | None = None) -> Path:
    """The folder or file of rows that a request names. Raises Forbidden, Invalid, DataError (no rows, or
    several splits)."""
    place = readable(settings, "data", path, field="folder")
    if place.is_dir():
        check_files(settings, "data", (one.path for one in members(place, split)), field="folder")
    return place


def list_datasets(
    session: Session, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[Dataset]:
    """Data sets, newest first."""
    query = select(Dataset).order_by(Dataset.id.desc()).limit(page_limit(limit) + 1)
    if cursor is not None:
        query = query.where(Dataset.id < decode_cursor(cursor, [int])[0])
    found = list(session.scalars(query))
    more = len(found) > limit
    return Page(found[:limit], encode_cursor(found[limit - 1].id) if more else None)


def get_dataset(session: Session, dataset_id: int) -> Dataset:
    """The data set. Raises NotFound."""
    dataset = session.get(Dataset, dataset_id)
    if dataset is None:
        raise NotFound(f"There is no data set {dataset_id}; the list of data sets shows those that exist.")
    return dataset


def get_pair(session: Session, pair_id: int) -> Pair:
    """The pair. Raises NotFound."""
    pair = session.get(Pair, pair_id)
    if pair is None:
        raise NotFound(f"There is no pair {pair_id}; open its data set to see the pairs that exist.")
    return pair


def hold_dataset(session: Session, dataset_id: int) -> Dataset:
    """The data set, which nobody deletes before this transaction ends. Raises NotFound."""
    shared = {"read": True, "key_share": True}
    held = session.get(Dataset, dataset_id, with_for_update=shared, populate_existing=True)
    return get_dataset(session, dataset_id) if held is None else held


def columns_of(dataset: Dataset) -> set[Need]:
    """What the data bring that sources of token rewards may need."""
    columns: dict[Need, bool] = {
        "spans": dataset.annotated,
        "token_rewards": dataset.has_token_rewards,
        "logprobs": dataset.origin.get("logprobs", False),
    }
    return {need for need, is_there in columns.items() if is_there}


def delete_dataset(session: Session, dataset_id: int) -> None:
    """Removes the data set with its pairs and runs. Raises NotFound, and Conflict while a job works on it."""
    # The lock keeps a run from being submitted between the look and the deletion.
    dataset = session.get(Dataset, dataset_id, with_for_update=True)
    if dataset is None:
        get_dataset(session, dataset_id)
        return
    uses = or_(Run.dataset_id == dataset_id, Run.request["extra_datasets"].contains([{"id": dataset_id}]))
    active = select(Run.id).join(Job).where(uses, Job.status.in_(ACTIVE)).limit(1)
    run_id = session.scalar(active)
    if run_id is not None:
        raise Conflict(
            f"Run {run_id} works on the data set `{dataset.name}`; cancel it, or wait until it is over, "
            "and delete the data set then.",
            code="dataset_in_use",
        )
    remove_with(session, session.scalars(select(Run).where(Run.dataset_id == dataset_id)))
    session.delete(dataset)
    session.flush()


def check_disk(settings: Settings) -> None:
    """Raises StorageFull while the data folder's disk has less than `min_free_disk_mib` left."""
    place = settings.data_dir
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free // MIB
    if free < settings.min_free_disk_mib:
        raise StorageFull(
            f"The disk of {settings.data_dir} has {free} MiB left, and {settings.min_free_disk_mib} MiB are "
            "kept free; make room there, or lower REWARDSCOPE_MIN_FREE_DISK_MIB."
        )


def write_rows(session: Session, dataset_id: int, path: Path, start: int = 0) -> int:
    """Writes the pairs from position `start` on as canonical JSONL, whole or not at all; returns how many."""
    count = 0
    with atomic_file(path) as file:
        for count, row in enumerate(canonical_rows(session, dataset_id, start), start=1):  # noqa: B007 - counted
            file.write(json_line(row))
    return count


def canonical_rows(session: Session, dataset_id: int, start: int = 0) -> Iterator[dict[str, Any]]:
    """The pairs from position `start` on, in order, as `engine.formats` writes them."""
    # Plain columns: making objects of the session would take more than half as long again.
    query = (
        select(*(getattr(Pair, column) for column in _COLUMNS[2:]))
        .where(Pair.dataset_id == dataset_id, Pair.position >= start)
        .order_by(Pair.position)
        .execution_options(yield_per=500)
    )
    return map(canonical_row, session.execute(query))


def canonical_row(pair: Pair | Row[Any]) -> dict[str, Any]:
    """The row that `engine.formats` writes for a stored pair, or for the columns of one."""
    row: dict[str, Any] = {"id": pair.key, "prompt": pair.prompt if pair.messages is None else pair.messages}
    for side in SIDES:
        row[side] = getattr(pair, side)
        for column, value in (getattr(pair, f"{side}_extras") or {}).items():
            row[f"{side}_{column}"] = value
    if pair.meta:
        row["meta"] = pair.meta
    return row


# ---------------------------------------------------------------------------------------------- importing


@dataclass(slots=True)
class _Census:
    """What went by while rows were stored: their number, their hash, and the rows that were refused."""

    on_error: OnError
    pairs: int = 0
    responses: int = 0
    columns: set[Need] = field(default_factory=set)
    """What the responses bring that sources may need."""
    identical: int = 0
    """Pairs whose sides say the same: they prefer nothing."""
    refused: int = 0
    errors: list[RowError] = field(default_factory=list)
    digest: Any = field(default_factory=hashlib.sha256)

    def passing(self, rows: Iterable[PreferencePair | RowError]) -> Iterator[dict[str, Any]]:
        """The canonical rows that are to be stored. After a refusal that fails the import, none is; reading
        goes on only to tell of further errors."""
        for row in rows:
            if isinstance(row, RowError):
                self._refuse(row)
                if self.on_error == "fail" and len(self.errors) == SHOWN_ERRORS:
                    return
            elif self.on_error == "skip" or not self.refused:
                yield self._counted(row)

    def check(self) -> None:
        """Raises Invalid if the import has failed."""
        problems = [Problem(_place(error), error.reason) for error in self.errors[:SHOWN_ERRORS]]
        if self.refused and self.on_error == "fail":
            first = self.errors[0]
            count = f"{self.refused} or more rows" if self.refused == SHOWN_ERRORS else _rows(self.refused)
            raise Invalid(
                f"{count} cannot be used, the first on {str(first).rstrip('.')}. Nothing was imported; "
                "correct the rows, or import with on_error=skip to leave them out.",
                code="invalid_rows",
                errors=problems,
            )
        if not self.pairs:
            raise Invalid(
                "No row can be used, so there is no data set; correct the rows that are listed."
                if problems
                else "There is no row in the data; send at least one pair.",
                code="no_rows",
                errors=problems,
            )

    def describe(self, dataset: Dataset) -> None:
        """Writes what was counted into the data set's row."""
        dataset.content_hash = self.digest.hexdigest()
        dataset.pair_count = self.pairs
        dataset.response_count = self.responses
        dataset.annotated = "spans" in self.columns
        dataset.has_token_rewards = "token_rewards" in self.columns
        if "logprobs" in self.columns:
            dataset.origin = {**dataset.origin, "logprobs": True}
        if self.identical:
            dataset.origin = {**dataset.origin, "identical_sides": self.identical}
        dataset.skipped_count = self.refused
        dataset.skipped_rows = [error.as_row() for error in self.errors]

    def _refuse(self, error: RowError) -> None:
        self.refused += 1
        if len(self.errors) < KEPT_SKIPS:
            self.errors.append(error)

    def _counted(self, pair: PreferencePair) -> dict[str, Any]:
        row = pair_to_row(pair)
        self.digest.update(json_line(row))
        self.pairs += 1
        self.identical += pair.says_the_same
        for _, response in pair.sides():
            self.responses += 1
            self.columns |= brought_by(response)
        return row


def _named_dataset(session: Session, name: str, origin: dict[str, Any]) -> Dataset:
    dataset = Dataset(
        name=name,
        origin=origin,
        content_hash="",
        pair_count=0,
        response_count=0,
        annotated=False,
        has_token_rewards=False,
    )
    if session.scalar(select(exists().where(Dataset.name == name))):
        raise _name_taken(name)
    session.add(dataset)
    try:
        session.flush()
    except IntegrityError as error:  # somebody took the name since we looked
        raise _name_taken(name) from error
    return dataset


def _copy_pairs(session: Session, dataset_id: int, rows: Iterator[dict[str, Any]]) -> None:
    """Stores rows in order, so that ids ascend with positions (the table of pairs relies on it)."""
    stored = ((dataset_id, position, *_columns(row)) for position, row in enumerate(rows))
    try:
        copy_rows(session, "pairs", _COLUMNS, stored)
    except IntegrityError as error:
        raise Invalid(
            "Two rows have the same key; give each row an `id` of its own.", code="invalid_rows"
        ) from error


def _columns(row: Mapping[str, Any]) -> tuple[str | None, ...]:
    prompt = row["prompt"]
    plain = isinstance(prompt, str)
    return (
        row["id"],
        prompt if plain else None,
        None if plain else _json(prompt),
        row["chosen"],
        row["rejected"],
        _extras(row, "chosen"),
        _extras(row, "rejected"),
        _json(row.get("meta", {})),
    )


def _extras(row: Mapping[str, Any], side: str) -> str | None:
    extras = {name: row[f"{side}_{name}"] for name in _EXTRAS if f"{side}_{name}" in row}
    return _json(extras) if extras else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# ----------------------------------------------------------------------------------------- names and errors


def _place(error: RowError) -> tuple[str | int, ...]:
    return ("line", error.line) if error.field is None else ("line", error.line, error.field)


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _name_taken(name: str) -> Conflict:
    return Conflict(
        f"There is a data set `{name}` already; choose another name, or delete that one first.",
        code="name_taken",
        errors=[Problem(("body", "name"), "is taken")],
    )
