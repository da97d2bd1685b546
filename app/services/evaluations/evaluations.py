"""Evaluating a model: what may be asked, what its job is given, and figures of several side by side."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.tables import Run
from app.errors import Invalid, Problem
from app.services.datasets.datasets import check_disk, get_dataset, hold_dataset, write_rows
from app.services.evaluations.task_suites import resolve_suites, write_suites
from app.services.models.models import (
    ModelName,
    check_same_tokens,
    choose,
    name_again,
    record_of,
    recorded_reference,
)
from app.services.paging import DEFAULT_LIMIT, Page, decode_cursor, encode_cursor, page_limit
from app.services.runs import jobs
from app.services.runs.kinds import RUN_KINDS, Clone, RunKind
from app.settings import Settings
from engine.evaluation.request import EvaluationNumbers, EvaluationRequest, Figure
from engine.fields import shown

EVALUATION = "evaluation"
"""The kind of runs that evaluate a model."""

Id = Annotated[int, Field(ge=1, le=2**63 - 1)]


class EvaluationBody(EvaluationNumbers):
    """The body of `POST /api/v1/evaluations`."""

    model: ModelName = Field(title="Model")
    """What is evaluated: a registered model, a folder, or a name on the hub."""
    reference: ModelName | None = Field(None, title="Reference model", json_schema_extra=shown(blank="none"))
    """What it is compared with: for KL, implicit reward, and each figure's change."""
    dataset_id: Id | None = Field(None, title="Pairs", json_schema_extra=shown(blank="none"))
    """For accuracies, held-out loss and, where they are labelled, localisation."""
    suite_ids: list[Id] = Field([], max_length=20, title="Task suites")
    """Sampled answers, checked by programs."""
    name: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        title="Name",
        json_schema_extra=shown(blank="by model and what it is evaluated on"),
    )
    """What the run is called."""


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One figure of one evaluation, with what it was measured on."""

    run_id: int
    run_name: str
    model_id: int
    model: str
    dataset_id: int | None
    figure: Figure
    created_at: datetime


def submit(session: Session, settings: Settings, body: EvaluationBody) -> Run:
    """A queued run. Everything that can be wrong with the request is said now: NotFound (data set), Invalid
    (nothing to evaluate on, a model that does not fit its role, another tokenizer, no such suite),
    ModelError, Forbidden (a suite runs code), StorageFull."""
    check_disk(settings)
    if body.dataset_id is None and not body.suite_ids:
        raise Invalid(
            "There is nothing to evaluate on; name a data set, a task suite, or both.",
            errors=[Problem(("body", "suite_ids"), "name a data set or a task suite")],
        )
    if body.dataset_id is not None:
        get_dataset(session, body.dataset_id)
    model = choose(session, settings, body.model, "model", "causal_lm")
    reference = (
        None
        if body.reference is None
        else choose(session, settings, body.reference, "reference", "causal_lm")
    )
    check_same_tokens({"model": model, "reference": reference})
    suites = resolve_suites(session, settings, body.suite_ids)
    dataset = None if body.dataset_id is None else hold_dataset(session, body.dataset_id)
    resolved = {
        **{name: getattr(body, name) for name in EvaluationNumbers.model_fields},
        "model": record_of(model),
        "reference": None if reference is None else record_of(reference),
        "dataset_id": None if dataset is None else dataset.id,
        "dataset_name": None if dataset is None else dataset.name,
        "data_hash": None if dataset is None else dataset.content_hash,
        "suites": suites,
        "allow_code": settings.allow_code,
    }
    tried_on = [*([] if dataset is None else [dataset.name]), *(suite["name"] for suite in suites)]
    name = body.name or f"{model.name}: {', '.join(tried_on)}"[:200]
    return jobs.submit(
        session, kind=EVALUATION, name=name, request=resolved, dataset_id=resolved["dataset_id"]
    )


def clone(session: Session, run: Run) -> Clone:
    """The body that asks for the same evaluation once more."""
    body = EvaluationBody.model_validate(
        {
            **{name: run.request[name] for name in EvaluationNumbers.model_fields},
            **{role: name_again(session, run.request[role]) for role in ("model", "reference")},
            "dataset_id": run.request["dataset_id"],
            "suite_ids": [suite["id"] for suite in run.request["suites"]],
        }
    )
    return Clone("evaluations", body)


def prepare(session: Session, run: Run, scratch: Path) -> dict[str, Any]:
    """The request of the job's process; writes rows and task suites into `scratch`.

    Raises Conflict for a suite that was deleted since.
    """
    rows = None
    if run.dataset_id is not None:
        rows = scratch / "rows.jsonl"
        write_rows(session, run.dataset_id, rows)
    return {
        "request": evaluation_request(run.request).model_dump(mode="json"),
        "rows": None if rows is None else str(rows),
        "suites": write_suites(session, run.request["suites"], scratch),
        "allow_code": run.request["allow_code"],
    }


def finish(session: Session, run: Run, result: dict[str, Any]) -> dict[str, Any]:
    """What the run keeps: {"figures": [Figure as JSON], "seconds", "notes"}."""
    figures = [Figure.model_validate(figure).model_dump(mode="json") for figure in result["figures"]]
    return {**result, "figures": figures}


def evaluation_request(resolved: dict[str, Any]) -> EvaluationRequest:
    """The engine's request of one that was resolved."""
    return EvaluationRequest.model_validate(
        {
            **{name: resolved[name] for name in EvaluationNumbers.model_fields},
            "model": recorded_reference(resolved["model"]),
            "reference": recorded_reference(resolved["reference"]),
        }
    )


def figures_of(run: Run) -> list[Figure]:
    """The figures of an evaluation; none until it succeeded."""
    return [Figure.model_validate(figure) for figure in (run.result or {}).get("figures", [])]


def list_figures(
    session: Session,
    *,
    model_ids: Sequence[int] = (),
    run_ids: Sequence[int] = (),
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[FigureRow]:
    """Figures of evaluations, those of the newest first, each evaluation's in its own order.

    `model_ids` and `run_ids` narrow them down where they are given. Raises Invalid for a bad limit or cursor.
    """
    query = select(Run).where(Run.kind == EVALUATION, Run.result.is_not(None)).order_by(Run.id.desc())
    if model_ids:
        query = query.where(Run.request["model"]["id"].as_integer().in_(model_ids))
    if run_ids:
        query = query.where(Run.id.in_(run_ids))
    after: tuple[int, int] | None = None
    if cursor is not None:
        run_id, place = decode_cursor(cursor, [int, int])
        after = run_id, place
        query = query.where(Run.id <= run_id)
    limit = page_limit(limit)
    with closing(session.scalars(query.execution_options(yield_per=50))) as runs:
        found = list(itertools.islice(_rows(runs, after), limit + 1))
    rows = [row for _, row in found[:limit]]
    return Page(rows, encode_cursor(rows[-1].run_id, found[limit - 1][0]) if len(found) > limit else None)


def _rows(runs: Iterable[Run], after: tuple[int, int] | None) -> Iterator[tuple[int, FigureRow]]:
    """Every figure with its place in its run, from behind the run and place of `after` on."""
    for run in runs:
        for place, figure in enumerate(figures_of(run)):
            if after is None or run.id < after[0] or place > after[1]:
                yield (
                    place,
                    FigureRow(
                        run_id=run.id,
                        run_name=run.name,
                        model_id=run.request["model"]["id"],
                        model=run.request["model"]["name"],
                        dataset_id=run.dataset_id,
                        figure=figure,
                        created_at=run.created_at,
                    ),
                )


RUN_KINDS.register(
    RunKind(name=EVALUATION, word="evaluation", job="evaluate", prepare=prepare, finish=finish, clone=clone)
)
