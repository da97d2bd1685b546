"""A training from its submission to its model, done by a worker; killed in the middle, and tried again."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from app.db.session import Database
from app.db.tables import Model, Run
from app.services.models import models
from app.services.run_kinds import RUN_KINDS
from app.services.runs import jobs, metrics, runs
from app.services.trainings import checkpoints, trainings
from app.services.trainings.trainings import TrainingBody
from app.settings import Settings
from app.worker import Worker
from engine.training.reports import MetricPoints
from tests.app import factories, trained_runs, training_job

STEPS = 10


@pytest.fixture
def trainer(settings: Settings, database: Database) -> Iterator[Worker]:
    """A stepped worker whose trainings need no model."""
    worker = Worker(settings, database, {"training": replace(RUN_KINDS["training"], job=training_job.NAME)})
    yield worker
    worker.close()


@pytest.fixture
def run_id(settings: Settings, database: Database) -> int:
    """A queued training of ten updates, masked by a scoring run."""
    with database.session() as session:
        factories.make_model(session, settings, "model")
        folder = Path(models.find_model(session, "model").path)  # type: ignore[union-attr]
        (folder / "generation_config.json").write_text("{}")
        models.delete_model(session, models.find_model(session, "model").id)  # type: ignore[union-attr]
        scored = factories.make_scored_run(session, settings, 3)
        body = TrainingBody.model_validate(
            {
                "method": {"name": "dpo"},
                "model": str(folder),
                "dataset_id": scored.dataset_id,
                "scoring_run_id": scored.id,
                "supervision": {"density": "segment"},
                "optimisation": {"steps": STEPS},
                "name": "trained",
            }
        )
        return trainings.submit(session, settings, body).id


def work(worker: Worker) -> None:
    """Does all that is queued."""
    while worker.run_once():
        pass


def curve(database: Database, run_id: int, name: str) -> list[tuple[int, float]]:
    with database.session() as session:
        found = metrics.read(session, run_id)[name].points
        return list(zip(found.steps.tolist(), found.values.tolist(), strict=True))


def show(database: Database, run_id: int) -> Any:
    with database.session() as session:
        return runs.get_run(session, run_id)


def test_a_training_leaves_curves_checkpoints_and_a_model(
    trainer: Worker, database: Database, run_id: int
) -> None:
    work(trainer)
    run = show(database, run_id)
    assert (run.job.status, run.job.error) == ("succeeded", None)
    assert (run.job.done, run.job.total, run.job.unit, run.job.resume_from) == (STEPS, STEPS, "steps", STEPS)
    assert curve(database, run_id, "train/loss") == [(step, 1 / step) for step in range(1, STEPS + 1)]
    assert run.result["device"] == "cpu"
    assert run.result["maps"] == 6
    assert run.request["settled"]["data_hash"] == run.request["data_hash"]
    with database.session() as session:
        kept = checkpoints.list_checkpoints(session, run_id)
        assert [one.step for one in kept] == [6, 9]
        assert all(Path(one.path).is_dir() for one in kept)
        model = models.get_model(session, run.result["model_id"])
        assert (model.name, model.path) == ("trained", str(Path(run.request["folder"]) / "final"))


@pytest.mark.parametrize("dies_at", [1, 3, 5, 10])
def test_a_killed_training_goes_on_without_hole_or_double_point(
    trainer: Worker, database: Database, settings: Settings, run_id: int, dies_at: int
) -> None:
    settings.runs_dir.mkdir(parents=True)
    (settings.runs_dir / "die-at").write_text(str(dies_at))
    work(trainer)
    run = show(database, run_id)
    assert (run.job.status, run.job.error["code"]) == ("crashed", "crashed")
    assert [step for step, _ in curve(database, run_id, "train/loss")] == list(range(1, dies_at + 1))
    with database.session() as session:
        jobs.retry(session, run_id)
    work(trainer)
    run = show(database, run_id)
    assert (run.job.status, run.job.attempt) == ("succeeded", 2)
    assert curve(database, run_id, "train/loss") == [(step, 1 / step) for step in range(1, STEPS + 1)]
    begun = dies_at - dies_at % training_job.EVERY
    assert curve(database, run_id, "train/attempt_began") == [
        (step, 0.0 if step <= begun else begun) for step in range(1, STEPS + 1)
    ]


def store_and_cancel_at_five(session: Session, run: Run, attempt: int, chunk: Any) -> None:
    """For trainings that somebody cancels once five updates are done."""
    trainings.store(session, run, attempt, chunk)
    if isinstance(chunk, MetricPoints) and chunk.end == 5 and attempt == 1:
        jobs.cancel(session, run.id)


def test_a_cancelled_training_is_taken_up_again(settings: Settings, database: Database, run_id: int) -> None:
    kind = replace(RUN_KINDS["training"], job=training_job.NAME, store=store_and_cancel_at_five)
    worker = Worker(settings, database, {"training": kind})
    work(worker)
    assert show(database, run_id).job.status == "cancelled"
    # It hears of it in the answer to its next report.
    assert [step for step, _ in curve(database, run_id, "train/loss")] == [1, 2, 3, 4, 5, 6]
    with database.session() as session:
        jobs.retry(session, run_id)
    work(worker)
    worker.close()
    assert show(database, run_id).job.status == "succeeded"
    assert curve(database, run_id, "train/attempt_began") == [
        (step, 0.0 if step <= 3 else 3.0) for step in range(1, STEPS + 1)
    ]


def test_a_training_is_asked_for_and_read_through_the_api(
    client: Any, trainer: Worker, database: Database, settings: Settings, run_id: int
) -> None:
    """POST, preview, curves, checkpoints, a clone, the model as a tar file, and the end of all of it."""
    body = client.get(f"/api/v1/runs/{run_id}/clone").json()["body"]
    preview = client.post("/api/v1/trainings/preview", json=body)
    assert preview.status_code == 200, preview.text
    assert preview.json()["steps"] == STEPS
    assert set(preview.json()["kept"]) == {"chosen", "rejected"}
    answers = [
        client.post("/api/v1/trainings", json=body, headers={"Idempotency-Key": "once"}) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [202, 202]
    second = answers[0].json()
    assert second["id"] == answers[1].json()["id"]
    assert second["cloned_from"] == run_id
    assert answers[0].headers["Location"] == f"/api/v1/runs/{second['id']}"
    work(trainer)
    found = client.get(f"/api/v1/runs/{run_id}/metrics?names=train/loss&since=7").json()
    assert found == {
        "series": {
            "train/loss": {"steps": [8, 9, 10], "values": [1 / 8, 1 / 9, 0.1], "points": 3, "binned": False}
        },
        "last_step": STEPS,
    }
    thin = client.get(f"/api/v1/runs/{run_id}/metrics?max_points=6").json()["series"]["train/loss"]
    assert (thin["points"], thin["binned"], len(thin["steps"])) == (STEPS, True, 4)
    kept = client.get(f"/api/v1/runs/{run_id}/checkpoints").json()
    assert [(one["step"], one["metrics"]) for one in kept] == [
        (6, {"held_out/loss": 1 / 6}),
        (9, {"held_out/loss": 1 / 9}),
    ]
    assert [run["id"] for run in client.get("/api/v1/runs?kind=training").json()["data"]] == [
        second["id"],
        run_id,
    ]
    model_id = client.get(f"/api/v1/runs/{run_id}").json()["result"]["model_id"]
    answer = client.get(f"/api/v1/models/{model_id}/download")
    assert answer.headers["Content-Length"] == str(len(answer.content))
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        assert "trained/config.json" in tar.getnames()
        inside = tar.extractfile("trained/model.safetensors")
        assert inside is not None
        assert inside.read() == (settings.runs_dir / str(run_id) / "final" / "model.safetensors").read_bytes()
    for number in (run_id, second["id"]):
        assert client.delete(f"/api/v1/runs/{number}").status_code == 204
    assert client.delete(f"/api/v1/models/{model_id}?files=true").status_code == 204
    assert not (settings.runs_dir / str(run_id)).exists()


def test_a_stream_tells_how_far_the_curves_are(client: Any, trainer: Worker, run_id: int) -> None:
    work(trainer)
    text = client.get(f"/api/v1/runs/{run_id}/events").text
    assert 'event: metrics\ndata: {"last_step":10,"attempt":1}' in text


def test_only_models_of_ours_are_handed_out(client: Any, settings: Settings, database: Database) -> None:
    with database.session() as session:
        brought = factories.make_model(session, settings, "brought").id
        gone = Model(
            **{c.name: getattr(session.get(Model, brought), c.name) for c in Model.__table__.columns}
        )
        gone.id, gone.name = None, "gone"  # type: ignore[assignment]
        gone.path, gone.origin = str(settings.runs_dir / "9" / "final"), {"kind": "training", "run": 9}
        session.add(gone)
    refused = client.get(f"/api/v1/models/{brought}/download")
    assert (refused.status_code, refused.json()["code"]) == (403, "not_ours")
    assert client.delete(f"/api/v1/models/{brought}?files=true").status_code == 403
    missing = client.get(f"/api/v1/models/{gone.id}/download")
    assert (missing.status_code, missing.json()["code"]) == (409, "files_gone")


def test_a_link_is_not_handed_out(
    client: Any, trainer: Worker, settings: Settings, run_id: int, tmp_path: Path
) -> None:
    work(trainer)
    secret = tmp_path / "secret"
    secret.write_text("a secret of the server")
    final = settings.runs_dir / str(run_id) / "final"
    (final / "innocent.json").symlink_to(secret)
    (final / "folder").symlink_to(tmp_path)
    model_id = client.get(f"/api/v1/runs/{run_id}").json()["result"]["model_id"]
    content = client.get(f"/api/v1/models/{model_id}/download").content
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert all(member.isreg() for member in tar.getmembers())
        assert not [name for name in tar.getnames() if "innocent" in name or "secret" in name]


def test_a_bad_request_names_its_field(client: Any, settings: Settings, database: Database) -> None:
    with database.session() as session:
        factories.make_model(session, settings, "model")
        dataset_id = factories.make_dataset(session, 2).id
    asked = {"dataset_id": dataset_id, "model": "model"}
    for wrong, place in (
        ({"method": {"name": "magic"}}, ["body", "method"]),
        (
            {"method": {"name": "dpo"}, "supervision": {"density": "segment"}},
            ["body", "scorer"],
        ),
        ({"method": {"name": "ppo"}}, ["body", "reward_model"]),
        ({"method": {"name": "dpo"}, "model": "nowhere/at-all/there"}, None),
        (
            {"method": {"name": "dpo"}, "optimisation": {"batch_size": 1}, "machine": {"processes": 2}},
            ["body", "optimisation", "batch_size"],
        ),
    ):
        for door in ("/api/v1/trainings", "/api/v1/trainings/preview"):
            answer = client.post(door, json=asked | wrong)
            assert answer.status_code == 422, answer.text
            if place is not None:
                assert answer.json()["errors"][0]["loc"][: len(place)] == place


def test_curves_of_no_run_are_not_found(client: Any) -> None:
    for what in ("metrics", "checkpoints", "clone"):
        assert client.get(f"/api/v1/runs/999999/{what}").status_code == 404
    assert client.get("/api/v1/runs/1/metrics?since=-2").status_code == 422


def test_a_run_without_curves_has_none(client: Any, settings: Settings, database: Database) -> None:
    with database.session() as session:
        run_id = factories.make_scored_run(session, settings, 1).id
    assert client.get(f"/api/v1/runs/{run_id}/metrics").json() == {"series": {}, "last_step": 0}
    assert client.get(f"/api/v1/runs/{run_id}/checkpoints").json() == []


def test_points_that_are_stored_while_curves_are_read_come_with_the_next_look(
    client: Any, settings: Settings, database: Database
) -> None:
    with database.session() as session:
        run = trained_runs.make_training(session, settings, 100)
        attempt = trained_runs.begin(session, run)
        trained_runs.go_on(session, run, attempt, 4)
        address = f"/api/v1/runs/{run.id}/metrics?names=train/loss"
        run_id = run.id
    stored: list[int] = []

    def store_meanwhile(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "metric_blocks" in statement and not stored:
            stored.append(9)
            with database.session() as session:
                trained_runs.go_on(session, runs.get_run(session, run_id), attempt, 9)

    event.listen(database.engine, "after_cursor_execute", store_meanwhile)
    first = client.get(address).json()
    event.remove(database.engine, "after_cursor_execute", store_meanwhile)
    then = client.get(f"{address}&since={first['last_step'] - 1}").json()
    steps = {*first["series"]["train/loss"]["steps"], *then["series"]["train/loss"]["steps"]}
    assert stored == [9]
    assert steps == set(range(1, 10))
