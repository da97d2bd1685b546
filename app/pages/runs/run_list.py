"""All runs as a list that is filtered by its address and follows the runs that are active."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from app.db.tables import JobStatus
from app.dependencies import SessionDep
from app.errors import Invalid
from app.pages.parts.forms import filled, page_number
from app.pages.parts.numbers import counted
from app.pages.parts.rendering import Option, PageContext, render, url_of
from app.pages.parts.run_rows import RunRow, run_row
from app.services.datasets import datasets
from app.services.run_kinds import KIND_NAMES
from app.services.runs import runs
from app.services.runs.kinds import word_of

LONGEST_NAME = 200
"""Characters of a name that are looked for."""

router = APIRouter()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsPage(PageContext):
    """The list."""

    runs: list[RunRow]
    total: str
    is_filtered: bool
    refresh_url: str | None
    """Where the same list is asked for again; None where none of its runs is active."""
    next_url: str | None
    first_url: str | None
    here: str
    compare_url: str
    kinds: list[Option]
    statuses: list[Option]
    name: str
    dataset: tuple[int, str] | None
    """Id and name of the data set whose runs alone are listed."""


@router.get("/runs", name="pages:runs")
def show_runs(request: Request, session: SessionDep) -> Response:
    """The runs of a kind, status, name and data set, newest first. Raises Invalid for a filter that is none,
    and NotFound for a data set that is none."""
    asked = filled(request.query_params)
    kind = _one_of("kind", KIND_NAMES, asked.get("kind"))
    status = _one_of("status", [status.value for status in JobStatus], asked.get("status"))
    name = asked.get("name", "")[:LONGEST_NAME]
    dataset_id = page_number(asked.get("dataset"))
    dataset = None if dataset_id is None else datasets.get_dataset(session, dataset_id)
    found = runs.list_runs(
        session, kind=kind, status=status, dataset_id=dataset_id, name=name, cursor=asked.get("cursor")
    )
    filters = {"kind": kind, "status": status, "name": name or None, "dataset": dataset_id}
    rows = [run_row(request, run) for run in found.items]
    page = RunsPage(
        title="Runs",
        section="runs",
        runs=rows,
        total=counted(found.total or 0, "run"),
        is_filtered=any(value is not None for value in filters.values()),
        refresh_url=url_of(request, "runs", {**filters, "cursor": asked.get("cursor")})
        if any(row.is_active for row in rows)
        else None,
        next_url=url_of(request, "runs", {**filters, "cursor": found.next_cursor})
        if found.next_cursor
        else None,
        first_url=url_of(request, "runs", filters) if asked.get("cursor") else None,
        here=url_of(request, "runs"),
        compare_url=url_of(request, "compare"),
        kinds=_choices("any kind", {name: word_of(name) for name in KIND_NAMES}, kind),
        statuses=_choices("any status", {one.value: one.value for one in JobStatus}, status),
        name=name,
        dataset=None if dataset is None else (dataset.id, dataset.name),
    )
    return render(request, "runs/index.html", page)


def _one_of(name: str, known: Sequence[str], value: str | None) -> str | None:
    if value is not None and value not in known:
        raise Invalid(f"There is no {name} {value!r} of runs; those there are: {', '.join(known)}.")
    return value


def _choices(every: str, known: Mapping[str, str], chosen: str | None) -> list[Option]:
    return [
        Option("", every, chosen is None),
        *(Option(value, word, value == chosen) for value, word in known.items()),
    ]
