"""Evaluations: refused where they cannot be done, given all that their job needs, and read side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.db.tables import Run
from app.errors import Conflict, Invalid, NotFound
from app.services.evaluations import evaluations, task_suites
from app.services.evaluations.evaluations import EvaluationBody
from app.services.models import models
from app.services.run_kinds import RUN_KINDS
from app.services.runs import jobs
from app.settings import Settings
from engine.evaluation.request import EvaluationRequest
from engine.formats.canonical import read_pairs
from engine.tasks import Number, Task
from engine.types import ModelReference
from tests.app import factories

TASKS = [Task(key="1", prompt="1 + 1 =", checker=Number(value=2))]


def submit(session: Session, settings: Settings, **fields: Any) -> Run:
    return evaluations.submit(session, settings, EvaluationBody.model_validate(fields))


def make_suite(session: Session) -> int:
    return task_suites.import_tasks(session, TASKS, name="sums", origin={"kind": "rows"}).id


def figure(value: float, part: str = "") -> dict[str, Any]:
    return {"metric": "success", "suite": "sums", "part": part, "value": value, "count": 1}


def done(session: Session, run: Run, *figures: dict[str, Any]) -> None:
    attempt = factories.claim(session, run)
    result = evaluations.finish(session, run, {"figures": list(figures), "seconds": 1.0, "notes": []})
    jobs.finish(session, run.job.id, attempt, result)


def test_the_job_is_given_rows_suites_and_models(
    session: Session, settings: Settings, tmp_path: Path
) -> None:
    dataset, suite = factories.make_dataset(session), make_suite(session)
    names = {role: factories.make_model(session, settings, role).name for role in ("tuned", "base")}
    run = submit(
        session,
        settings,
        model=names["tuned"],
        reference=names["base"],
        dataset_id=dataset.id,
        suite_ids=[suite],
        samples=2,
    )
    assert (run.kind, run.name, run.dataset_id) == ("evaluation", "tuned: capitals, sums", dataset.id)
    given = evaluations.prepare(session, run, tmp_path)
    request = EvaluationRequest.model_validate(given["request"])
    assert (request.samples, request.device) == (2, "auto")
    assert request.reference is not None
    assert (Path(request.model.path).name, Path(request.reference.path).name) == ("tuned", "base")
    assert len(list(read_pairs(Path(given["rows"])))) == 3
    assert [one["name"] for one in given["suites"]] == ["sums"]
    assert given["allow_code"] is False


def test_an_evaluation_needs_no_data_set(session: Session, settings: Settings, tmp_path: Path) -> None:
    factories.make_model(session, settings, "tuned")
    run = submit(session, settings, model="tuned", suite_ids=[make_suite(session)])
    given = evaluations.prepare(session, run, tmp_path)
    assert (given["rows"], given["request"]["reference"]) == (None, None)


@pytest.mark.parametrize(
    ("fields", "error", "sentence"),
    [
        ({}, Invalid, "nothing to evaluate on"),
        ({"dataset_id": 10**6}, NotFound, "no data set"),
        ({"suite_ids": [10**6]}, Invalid, "no task suite"),
        ({"model": "judge", "suite_ids": [1]}, Invalid, "is a sequence classifier"),
        ({"reference": "judge", "suite_ids": [1]}, Invalid, "as reference a causal"),
        ({"model": 10**6, "suite_ids": [1]}, Invalid, "no model"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(
    session: Session, settings: Settings, fields: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    factories.make_model(session, settings, "tuned")
    factories.make_model(session, settings, "judge", "LlamaForSequenceClassification")
    with pytest.raises(error, match=sentence):
        submit(session, settings, **({"model": "tuned"} | fields))


def test_a_reference_with_another_tokenizer_is_refused(
    session: Session, settings: Settings, model_folder: Callable[..., Path]
) -> None:
    tuned, other = (
        models.register(session, settings, ModelReference(path=str(folder))).id
        for folder in (model_folder("llama"), model_folder("llama", bos=False))
    )
    with pytest.raises(Invalid, match="another tokenizer"):
        submit(session, settings, model=tuned, reference=other, suite_ids=[make_suite(session)])


def test_a_suite_that_was_deleted_since_fails_with_a_sentence(
    session: Session, settings: Settings, tmp_path: Path
) -> None:
    factories.make_model(session, settings, "tuned")
    suite = make_suite(session)
    run = submit(session, settings, model="tuned", suite_ids=[suite])
    jobs.cancel(session, run.id)
    task_suites.delete_suite(session, suite)
    jobs.retry(session, run.id)
    with pytest.raises(Conflict, match="import it again"):
        evaluations.prepare(session, run, tmp_path)


def test_a_chunk_is_refused(session: Session, settings: Settings) -> None:
    factories.make_model(session, settings, "tuned")
    run = submit(session, settings, model="tuned", suite_ids=[make_suite(session)])
    with pytest.raises(ValueError, match="chunk"):
        RUN_KINDS["evaluation"].store(session, run, 1, {})


def test_figures_of_several_evaluations_stand_side_by_side(session: Session, settings: Settings) -> None:
    suite = make_suite(session)
    runs = []
    for name in ("base", "tuned"):
        factories.make_model(session, settings, name)
        runs.append(submit(session, settings, model=name, suite_ids=[suite]))
    assert evaluations.list_figures(session).items == []
    done(session, runs[0], figure(0.5), figure(0.25, "hard"))
    done(session, runs[1], figure(0.75), figure(0.5, "hard"), figure(1.0, "easy"))
    found = [
        (row.model, row.figure.part, row.figure.value) for row in evaluations.list_figures(session).items
    ]
    assert found == [
        ("tuned", "", 0.75),
        ("tuned", "hard", 0.5),
        ("tuned", "easy", 1.0),
        ("base", "", 0.5),
        ("base", "hard", 0.25),
    ]
    base = runs[0].request["model"]["id"]
    assert {row.model for row in evaluations.list_figures(session, model_ids=[base]).items} == {"base"}
    assert len(evaluations.list_figures(session, run_ids=[runs[1].id]).items) == 3
    cursor, pages = None, []
    while True:
        page = evaluations.list_figures(session, limit=2, cursor=cursor)
        pages += [(row.model, row.figure.part, row.figure.value) for row in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert pages == found
