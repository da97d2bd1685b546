"""Runs side by side: curves over each other, what was asked differently, figures of evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from app.db.tables import Run
from app.dependencies import SessionDep
from app.errors import Invalid
from app.pages.parts.evaluation_figures import SideLine, by_key, side_by_side
from app.pages.parts.numbers import MISSING
from app.pages.parts.rendering import PageContext, render, url_of
from app.pages.parts.run_facts import written
from app.pages.parts.training_curves import CurvesPanel, curves_panel
from app.services.evaluations import evaluations
from app.services.runs.kinds import has_curves, word_of
from app.services.runs.views import MOST_COMPARED, runs_of
from engine.evaluation.request import Figure

UNCOMPARED = ("folder", "id", "fingerprint", "path", "content_hash", "threads_used")
"""What differs between any two runs, and is of no interest."""

router = APIRouter()


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """A run that stands here."""

    id: int
    name: str
    kind: str
    status: str
    address: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A part of the requests that is not the same in all runs."""

    name: str
    values: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparePage(PageContext):
    """The whole page."""

    runs: list[ComparedRun]
    curves: CurvesPanel | None
    differences: list[Difference]
    figures: list[SideLine]


@router.get("/runs/compare", name="pages:compare")
def show_comparison(request: Request, session: SessionDep) -> Response:
    """The runs that `ids` names, with commas between or one at a time."""
    found = runs_of(session, _ids(request))
    drawn = [run for run in found if has_curves(run)]
    page = ComparePage(
        title="Compare runs",
        section="runs",
        runs=[
            ComparedRun(
                id=run.id,
                name=run.name,
                kind=word_of(run.kind),
                status=run.job.status,
                address=url_of(request, "run", run_id=run.id),
            )
            for run in found
        ],
        curves=curves_panel(request, session, drawn, compares=True) if drawn else None,
        differences=[
            difference
            for kind in dict.fromkeys(run.kind for run in found)
            for difference in differences([run.request if run.kind == kind else None for run in found])
        ],
        figures=side_by_side([by_key(_figures(session, run)) for run in found]),
    )
    return render(request, "runs/compare.html", page)


def differences(requests: Sequence[Mapping[str, Any] | None]) -> list[Difference]:
    """Every value that is not the same in all requests, by its path; a request of None is not compared."""
    flat = [{} if request is None else _flat(request) for request in requests]
    names = dict.fromkeys(name for one in flat for name in one)
    return [
        Difference(name.replace(".", " / ").replace("_", " "), [one.get(name, MISSING) for one in flat])
        for name in names
        if len({one.get(name) for one, asked in zip(flat, requests, strict=True) if asked is not None}) > 1
    ]


def _flat(values: Mapping[str, Any], under: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in values.items():
        if name in UNCOMPARED or (not under and name == "settled"):
            continue
        path = f"{under}.{name}" if under else name
        if isinstance(value, Mapping):
            found |= _flat(value, path)
        elif value not in (None, []):
            found[path] = written(value)
    return found


def _figures(session: Session, run: Run) -> list[Figure]:
    """Those of an evaluation; of a training those of its model, the newest first."""
    own = evaluations.figures_of(run)
    if own:
        return own
    model_id = (run.result or {}).get("model_id")
    if model_id is None:
        return []
    rows = evaluations.list_figures(session, model_ids=[model_id], limit=500).items
    return [row.figure for row in rows]


def _ids(request: Request) -> list[int]:
    words = [word.strip() for value in request.query_params.getlist("ids") for word in value.split(",")]
    words = list(dict.fromkeys(word for word in words if word))
    if not words or not all(word.isdecimal() and len(word) < 19 for word in words):
        raise Invalid("Choose the runs to compare in the list of runs, or name them as `ids=1,2,3`.")
    if len(words) > MOST_COMPARED:
        raise Invalid(f"Up to {MOST_COMPARED} runs stand side by side; choose fewer.")
    return [int(word) for word in words]
