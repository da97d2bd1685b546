"""The demo: asked for once or often, it is there once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.tables import Dataset, JobStatus, Model, Run, TaskSuite
from app.errors import StorageFull
from app.services import demo
from app.services.datasets import datasets
from app.services.recipes import recipes
from app.services.recipes.requests import RecipeBody
from app.services.runs import jobs, runs
from app.settings import Settings
from engine.formats.canonical import write_pairs, write_tasks
from engine.tasks import Number, Task
from engine.types import Side, Span
from tests.app import factories

ROWS = ("sample", "step", "token", "segment", "union")


@pytest.fixture
def built(tmp_path: Path) -> dict[str, Any]:
    """What the demo's job returns, of a world of two pairs."""
    spans: dict[Side, list[Span]] = {"chosen": [Span(0, 5, "error")], "rejected": []}
    write_pairs(
        tmp_path / "pairs.jsonl", [factories.preference_pair(number, spans=spans) for number in (1, 2)]
    )
    write_pairs(tmp_path / "pool.jsonl", [factories.preference_pair(number) for number in (3, 4, 5)])
    write_pairs(tmp_path / "held_out.jsonl", [factories.preference_pair(6)])
    write_tasks(tmp_path / "suite.jsonl", [Task(key="1", prompt="1 + 1 =", checker=Number(value=2))])
    classifier = factories.make_model_folder(tmp_path / "reward_model", "LlamaForSequenceClassification")
    return {
        "folder": str(tmp_path),
        **{part: str(tmp_path / f"{part}.jsonl") for part in ("pairs", "pool", "held_out", "suite")},
        "base": str(factories.make_model_folder(tmp_path / "base")),
        "scorer": str(factories.make_model_folder(tmp_path / "scorer")),
        "reward_model": str(classifier),
    }


def complete(session: Session, run: Run, built: dict[str, Any]) -> dict[str, Any]:
    attempt = factories.claim(session, run)
    result = demo.finish(session, run, built)
    jobs.finish(session, run.job.id, attempt, result)
    return result


def count(session: Session, table: type) -> int:
    return session.scalar(select(func.count()).select_from(table)) or 0


def test_the_demo_is_loaded_once(session: Session, settings: Settings, built: dict[str, Any]) -> None:
    run = demo.load(session, settings)
    assert demo.prepare(session, run, settings.data_dir) == {"folder": str(settings.data_dir / "lab")}
    assert demo.load(session, settings).id == run.id
    complete(session, run, built)
    assert demo.load(session, settings).id == run.id


def test_the_world_is_imported_and_its_scoring_waits(
    session: Session, settings: Settings, built: dict[str, Any]
) -> None:
    result = complete(session, demo.load(session, settings), built)
    dataset = datasets.get_dataset(session, result["dataset_id"])
    assert (dataset.name, dataset.pair_count, dataset.annotated) == ("demo: planted errors", 2, True)
    scoring = runs.get_run(session, result["run_id"])
    assert scoring.job.status == "queued"
    assert [source["name"] for source in scoring.request["sources"]] == ["implicit", "rm_prefix", "spans"]
    assert scoring.request["policy"]["path"] == built["scorer"]
    assert scoring.request["reference"]["path"] == built["base"]


def test_a_world_without_a_reward_model_is_scored_without_one(
    session: Session, settings: Settings, built: dict[str, Any]
) -> None:
    result = complete(session, demo.load(session, settings), {**built, "reward_model": None})
    scoring = runs.get_run(session, result["run_id"])
    assert [source["name"] for source in scoring.request["sources"]] == ["implicit", "spans"]


def test_finishing_twice_is_finishing_once(
    session: Session, settings: Settings, built: dict[str, Any]
) -> None:
    run = demo.load(session, settings)
    assert demo.finish(session, run, built) == demo.finish(session, run, built)
    assert (count(session, Dataset), count(session, TaskSuite)) == (3, 1)
    assert (count(session, Model), count(session, Run)) == (3, 2)


def test_a_recipe_finds_all_that_it_needs(
    session: Session, settings: Settings, built: dict[str, Any]
) -> None:
    result = complete(session, demo.load(session, settings), built)
    proposed = recipes.defaults(session, datasets.get_dataset(session, result["dataset_id"]))
    assert proposed == {
        "dataset_id": result["dataset_id"],
        "scorer_dataset_id": result["pool_id"],
        "held_out_dataset_id": result["held_out_id"],
        "model": result["models"]["reference"],
        "suite_ids": [result["suite_id"]],
    }
    assert datasets.get_dataset(session, result["pool_id"]).name == "demo: scorer's pool"
    recipe = recipes.submit(session, settings, RecipeBody.model_validate(proposed))
    steps = [step["name"] for step in recipe.plan if step["kind"] == "training"]
    assert steps == ["scorer", *(f"{method} {row}" for method in ("dpo", "rjs") for row in ROWS)]


def test_what_is_gone_is_not_proposed(session: Session, settings: Settings, built: dict[str, Any]) -> None:
    result = complete(session, demo.load(session, settings), built)
    datasets.delete_dataset(session, result["pool_id"])
    proposed = recipes.defaults(session, datasets.get_dataset(session, result["dataset_id"]))
    assert proposed == {"dataset_id": result["dataset_id"], "model": result["models"]["reference"]}


def test_a_world_built_anew_stands_beside_the_old_one(
    session: Session, settings: Settings, built: dict[str, Any]
) -> None:
    first = demo.finish(session, demo.load(session, settings), built)
    other = demo.finish(session, demo.load(session, settings), {**built, "folder": "elsewhere"})
    assert other["suite_id"] != first["suite_id"]
    assert datasets.get_dataset(session, other["pool_id"]).name == "demo: scorer's pool (2)"


def test_a_demo_whose_data_set_was_deleted_is_loaded_anew(
    session: Session, settings: Settings, built: dict[str, Any]
) -> None:
    run = demo.load(session, settings)
    result = complete(session, run, built)
    jobs.cancel(session, result["run_id"])
    datasets.delete_dataset(session, result["dataset_id"])
    again = demo.load(session, settings)
    assert again.id != run.id
    assert complete(session, again, built)["dataset_id"] != result["dataset_id"]


def test_a_demo_that_failed_is_tried_again(session: Session, settings: Settings) -> None:
    run = demo.load(session, settings)
    attempt = factories.claim(session, run)
    error = {"code": "out_of_resources", "detail": "The disk is full."}
    jobs.fail(session, run.job.id, attempt, JobStatus.failed, error)
    assert demo.load(session, settings).id != run.id


def test_a_full_disk_builds_no_world(session: Session, settings: Settings) -> None:
    with pytest.raises(StorageFull):
        demo.load(session, settings.model_copy(update={"min_free_disk_mib": 2**40}))
