"""Trainings: refused at once with the field that is wrong, or done in the background and remembered whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.db.tables import Model, Run, SourceStatistics
from app.errors import Conflict, Invalid, NotFound, StorageFull
from app.services.datasets import datasets
from app.services.models import models
from app.services.runs import jobs, kinds, metrics, runs, workers
from app.services.scorings import scorings
from app.services.scorings.scorings import ScoringRequest
from app.services.trainings import checkpoints, trainings
from app.services.trainings.trainings import TrainingBody
from app.settings import Settings
from engine.formats.maps import read_maps
from engine.training.reports import CheckpointSaved, MetricPoints, TrainingBegins
from engine.training.request import TrainingRequest
from engine.types import PreferencePair, Side
from tests.app import factories

GIB = 2**30


def body(**fields: Any) -> TrainingBody:
    return TrainingBody.model_validate({"method": {"name": "dpo"}, "model": "model"} | fields)


def masked(run: Run, **fields: Any) -> TrainingBody:
    """Segment-wise DPO on the data of a scoring run, masked by its rewards."""
    given = {
        "dataset_id": run.dataset_id,
        "scoring_run_id": run.id,
        "supervision": {"density": "segment"},
    }
    return body(**(given | fields))


def model_of(session: Session, settings: Settings, name: str, content: str, **kind: str) -> Model:
    """A registered model whose files are its own."""
    model = factories.make_model(session, settings, name, **kind)
    folder = Path(model.path)
    (folder / "generation_config.json").write_text(json.dumps({"name": content}))
    session.delete(model)
    session.flush()
    return models.register(session, settings, models.ModelReference(path=str(folder)), name=name)


@pytest.fixture
def model(session: Session, settings: Settings) -> Model:
    return model_of(session, settings, "model", "trained")


@pytest.fixture
def scored(session: Session, settings: Settings, model: Model) -> Run:
    """A run of five pairs that has succeeded, by models that are not the trained one."""
    return factories.make_scored_run(session, settings, 5)


def fields_of(error: pytest.ExceptionInfo[Invalid]) -> list[tuple[str | int, ...]]:
    return [problem.loc for problem in error.value.errors]


def said(session: Session, run: Run) -> list[str]:
    return [line.message for line in jobs.logs(session, run.id)]


# ------------------------------------------------------------------------------------------- what is asked


def test_a_submitted_training_states_what_it_will_do(
    session: Session, settings: Settings, scored: Run, model: Model
) -> None:
    run = trainings.submit(session, settings, masked(scored, cloned_from=7))
    assert (run.kind, run.name) == ("training", "capitals: dpo, segment")
    assert (run.job.status, run.job.total, run.job.unit) == ("queued", 1, "steps")
    assert run.cloned_from == 7
    asked = run.request
    assert asked["model"]["id"] == model.id
    assert asked["data_hash"] == datasets.get_dataset(session, scored.dataset_id or 0).content_hash
    assert asked["scoring_run"] == {"id": scored.id, "name": scored.name, "source": "implicit"}
    assert asked["folder"] == str((settings.runs_dir / str(run.id)).resolve())
    assert asked["supervision"]["source"] == "implicit"


def test_a_clone_begins_with_the_same_request(session: Session, settings: Settings, scored: Run) -> None:
    first = trainings.submit(session, settings, masked(scored, optimisation={"steps": 12}))
    found = kinds.clone(session, first)
    assert found.noun == "trainings"
    second = trainings.submit(session, settings, TrainingBody.model_validate(found.body.model_dump()))
    assert second.cloned_from == first.id
    changed = {"folder"}
    assert {k: v for k, v in first.request.items() if k not in changed} == {
        k: v for k, v in second.request.items() if k not in changed
    }


def test_a_clone_names_a_model_that_was_forgotten_by_its_path(
    session: Session, settings: Settings, scored: Run, model: Model
) -> None:
    run = trainings.submit(session, settings, masked(scored))
    jobs.cancel(session, run.id)
    models.delete_model(session, model.id)
    assert kinds.clone(session, run).body.model == model.path  # type: ignore[attr-defined]


def test_scorings_are_cloned_too(session: Session, settings: Settings, scored: Run) -> None:
    found = kinds.clone(session, scored)
    assert found.noun == "scorings"
    again = found.body.model_dump()
    assert again["policy"] == scored.request["policy"]["id"]
    assert again["sources"] == ["implicit"]  # Nobody stated its rule, so the clone states none.


def test_what_nobody_asks_for_is_not_cloned(session: Session) -> None:
    run = jobs.submit(session, kind="demo", name="Demo", request={})
    with pytest.raises(Conflict, match="has no request to change"):
        kinds.clone(session, run)


# ----------------------------------------------------------------------------------------- what is refused


def test_data_that_are_not_there_are_refused(session: Session, settings: Settings, scored: Run) -> None:
    with pytest.raises(NotFound):
        trainings.submit(session, settings, body(dataset_id=10**6))
    for extra in ([10**6], [scored.dataset_id]):
        with pytest.raises(Invalid) as error:
            trainings.submit(session, settings, body(dataset_id=scored.dataset_id, extra_dataset_ids=extra))
        assert fields_of(error) == [("body", "extra_dataset_ids", 0)]


@pytest.mark.parametrize(
    ("chosen", "rejected", "method"),
    [(None, "No.", "sft"), (None, "No.", "rjs"), ("Yes.", None, "dpo"), ("Yes.", None, "reward_model")],
)
def test_data_without_the_side_that_the_method_learns_from_are_refused(
    session: Session, settings: Settings, model: Model, chosen: str | None, rejected: str | None, method: str
) -> None:
    dataset = factories.make_dataset(session, [factories.preference_pair(1, chosen, rejected)])
    with pytest.raises(Invalid, match="No row of the data set `capitals`") as error:
        trainings.submit(session, settings, body(dataset_id=dataset.id, method={"name": method}))
    assert fields_of(error) == [("body", "dataset_id")]


def test_a_part_without_rows_is_refused(session: Session, settings: Settings, scored: Run) -> None:
    with pytest.raises(Invalid, match="leave none to train on") as error:
        trainings.submit(session, settings, masked(scored, data={"part": {"start": 0.0, "end": 0.1}}))
    assert fields_of(error) == [("body", "data", "part")]


def test_a_rule_that_needs_entropies_needs_a_run_with_some(
    session: Session, settings: Settings, model: Model
) -> None:
    factories.make_model(session, settings, "scorer", "LlamaForSequenceClassification")
    dataset_id = factories.make_dataset(session, 2).id
    asked = {"dataset_id": dataset_id, "reward_model": "scorer", "sources": ["rm_prefix"]}
    run = scorings.submit(session, settings, ScoringRequest.model_validate(asked))
    factories.score(session, run)
    rule = {"segmenter": {"name": "entropy"}}
    with pytest.raises(Invalid, match="no entropies to cut by"):
        trainings.submit(session, settings, masked(run, supervision={"density": "segment", "rule": rule}))


def test_rows_that_lack_a_side_are_told_of(session: Session, settings: Settings, model: Model) -> None:
    rows = [factories.preference_pair(1), factories.preference_pair(2, rejected=None)]
    dataset = factories.make_dataset(session, rows)
    preview = trainings.preview(session, settings, body(dataset_id=dataset.id))
    assert any("1 of 2 rows lack a response" in warning for warning in preview.warnings)
    assert (preview.rows, preview.held_out) == (1, 0)


@pytest.mark.parametrize("role", ["model", "reference", "scorer", "scorer_reference"])
def test_a_classifier_is_no_policy(session: Session, settings: Settings, scored: Run, role: str) -> None:
    with pytest.raises(Invalid) as error:
        trainings.submit(session, settings, body(**{"dataset_id": scored.dataset_id, role: "scorer"}))
    assert fields_of(error) == [("body", role)]


def test_a_reward_model_may_begin_as_either_kind(session: Session, settings: Settings, scored: Run) -> None:
    for name in ("model", "scorer"):
        asked = body(dataset_id=scored.dataset_id, method={"name": "reward_model"}, model=name)
        assert trainings.submit(session, settings, asked).job.status == "queued"


@pytest.mark.parametrize("method", ["ppo", "grpo", "rloo"])
def test_what_samples_needs_a_model_that_rewards_it(
    session: Session, settings: Settings, scored: Run, method: str
) -> None:
    with pytest.raises(Invalid) as error:
        trainings.submit(session, settings, body(dataset_id=scored.dataset_id, method={"name": method}))
    assert fields_of(error) == [("body", "reward_model")]
    with pytest.raises(Invalid, match="gives now") as error:
        trainings.submit(session, settings, masked(scored, method={"name": method}, reward_model="scorer"))
    assert fields_of(error) == [("body", "scoring_run_id")]


def test_a_mask_needs_rewards(session: Session, settings: Settings, scored: Run) -> None:
    with pytest.raises(Invalid, match="needs token rewards for its mask"):
        trainings.submit(session, settings, masked(scored, scoring_run_id=None))
    spans = {"density": "segment", "source": "spans"}
    with pytest.raises(Invalid, match="has no labelled spans") as error:
        trainings.submit(session, settings, masked(scored, scoring_run_id=None, supervision=spans))
    assert fields_of(error) == [("body", "supervision", "source")]


def test_a_scoring_run_must_fit(session: Session, settings: Settings, scored: Run, model: Model) -> None:
    other = factories.make_dataset(session, 2, "others")
    unfinished = factories.make_run(session, settings, datasets.get_dataset(session, scored.dataset_id or 0))
    training = trainings.submit(session, settings, masked(scored))
    for fields, words in (
        ({"scoring_run_id": 10**6}, "no scoring run"),
        ({"scoring_run_id": training.id}, "no scoring run"),
        ({"scoring_run_id": unfinished.id}, "not scored to its end"),
        ({"dataset_id": other.id}, "another data set"),
        ({"extra_dataset_ids": [other.id]}, "no other"),
    ):
        with pytest.raises(Invalid, match=words) as error:
            trainings.submit(session, settings, masked(scored, **fields))
        assert fields_of(error) == [("body", "scoring_run_id")]
    prefix = {"density": "segment", "source": "rm_prefix"}
    with pytest.raises(Invalid, match="not scored by `rm_prefix`") as error:
        trainings.submit(session, settings, masked(scored, supervision=prefix))
    assert fields_of(error) == [("body", "supervision", "source")]


def test_masks_of_another_tokenizer_are_refused(session: Session, settings: Settings, scored: Run) -> None:
    folder = factories.make_model_folder(settings.data_dir / "models" / "foreign")
    for path, vocabulary in (
        (folder, {"a": 0, "b": 1}),
        (Path(scored.request["policy"]["path"]), {"b": 0, "a": 1}),
    ):
        (path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    with pytest.raises(Invalid, match="another tokenizer") as error:
        trainings.submit(session, settings, masked(scored, model=str(folder)))
    assert fields_of(error) == [("body", "scoring_run_id")]
    assert error.value.code == "other_tokenizer"


def test_a_policy_does_not_mask_itself(session: Session, settings: Settings, scored: Run) -> None:
    with pytest.raises(Invalid, match="feeds on itself") as error:
        trainings.submit(session, settings, masked(scored, model="policy"))
    assert (error.value.code, fields_of(error)) == ("own_reward", [("body", "scoring_run_id")])
    with pytest.raises(Invalid, match="feeds on itself") as error:
        trainings.submit(session, settings, masked(scored, scoring_run_id=None, scorer="model"))
    assert (error.value.code, fields_of(error)) == ("own_reward", [("body", "scorer")])


def test_a_scorer_that_learned_from_the_pairs_that_it_masks_is_warned_of(
    session: Session, settings: Settings, scored: Run
) -> None:
    scorer = session.get_one(Model, scored.request["policy"]["id"])
    data_hash = datasets.get_dataset(session, scored.dataset_id or 0).content_hash
    scorer.origin = {"kind": "training", "run": 1, "data": [data_hash], "part": {"start": 0.0, "end": 0.5}}
    same = trainings.preview(session, settings, masked(scored))
    assert any("learned from the very pairs" in warning for warning in same.warnings)
    run = trainings.submit(session, settings, masked(scored))
    assert any("learned from the very pairs" in line for line in said(session, run))
    other_half = masked(scored, data={"part": {"start": 0.5, "end": 1.0}})
    assert not any("very pairs" in w for w in trainings.preview(session, settings, other_half).warnings)


def test_what_no_worker_can_hold_is_refused_with_figures(
    session: Session, settings: Settings, scored: Run
) -> None:
    asked = masked(scored)
    assert trainings.preview(session, settings, asked).largest_worker_bytes is None

    def beat(name: str, memory: int, device: str = "cpu") -> None:
        workers.beat(
            session,
            name=name,
            host="h",
            pid=1,
            version="0",
            device=device,
            queues=["default"],
            memory_bytes=memory,
        )

    beat("small", GIB // 2)
    beat("smaller", GIB // 4, "cuda")
    with pytest.raises(Invalid, match=r"needs about .* and the largest worker has 512 MiB; .*") as error:
        trainings.submit(session, settings, asked)
    assert error.value.code == "too_large"
    preview = trainings.preview(session, settings, asked)
    assert preview.largest_worker_bytes == GIB // 2
    assert preview.memory["total"] == preview.memory_needed > GIB // 2
    assert any("largest worker has" in warning for warning in preview.warnings)
    beat("large", 64 * GIB, "cuda")
    assert trainings.submit(session, settings, asked).job.status == "queued"
    with pytest.raises(Invalid, match="needs about"):
        trainings.submit(session, settings, masked(scored, machine={"device": "cpu"}))


def test_the_reference_of_every_method_that_samples_takes_memory(
    session: Session, settings: Settings, scored: Run
) -> None:
    factories.make_model(session, settings, "judge", "LlamaForSequenceClassification")

    def frozen(judge: str | None = "judge", **method: Any) -> int:
        asked = body(dataset_id=scored.dataset_id, method=method, reward_model=judge)
        return trainings.preview(session, settings, asked).memory["frozen"]

    sampling = {"responses": 2}
    assert frozen(name="rjs", sampling=sampling) == frozen(name="grpo", sampling=sampling)
    assert frozen(name="rjs", sampling=sampling) > frozen(None, name="rjs")


def test_a_disk_without_room_is_told_of(session: Session, settings: Settings, scored: Run) -> None:
    full = settings.model_copy(update={"min_free_disk_mib": 10**9})
    with pytest.raises(StorageFull):
        trainings.submit(session, full, masked(scored))


def test_a_name_that_no_model_could_have_is_refused(
    session: Session, settings: Settings, scored: Run
) -> None:
    with pytest.raises(Invalid) as error:
        trainings.submit(session, settings, masked(scored, name="a\x07"))
    assert fields_of(error) == [("body", "name")]


# --------------------------------------------------------------------------------------------- previews


def test_a_preview_says_what_the_mask_keeps(session: Session, settings: Settings, model: Model) -> None:
    def rewards(pair: PreferencePair, side: Side) -> list[float]:
        """Two of four words are bad on the chosen side, all of them on the rejected one."""
        return [1.0, 1.0, -1.0, -1.0, -1.0] if side == "chosen" else [-1.0] * 5

    run = factories.make_scored_run(session, settings, 5, rewards)
    rule = {"segmenter": {"name": "token"}, "eos": "inherit"}
    asked = masked(run, supervision={"density": "token", "rule": rule}, optimisation={"epochs": 2})
    preview = trainings.preview(session, settings, asked)
    assert preview.kept is not None
    assert (preview.kept.chosen, preview.kept.rejected) == (0.4, 1.0)
    assert (preview.kept.nothing, preview.kept.pairs) == (0, 5)
    assert (preview.rows, preview.held_out, preview.steps) == (4, 1, 1)
    assert preview.rule is not None
    assert any("raises the margin" in warning for warning in preview.warnings)
    assert preview.resolved.optimisation.learning_rate is not None


def test_a_preview_counts_the_responses_that_keep_nothing(
    session: Session, settings: Settings, model: Model
) -> None:
    run = factories.make_scored_run(session, settings, 3, lambda pair, side: [1.0] * 5)
    rule = {"segmenter": {"name": "token"}, "eos": "inherit"}
    preview = trainings.preview(
        session, settings, masked(run, supervision={"density": "token", "rule": rule})
    )
    assert preview.kept is not None
    assert (preview.kept.chosen, preview.kept.rejected, preview.kept.nothing) == (1.0, 0.0, 3)


def test_a_preview_leaves_nothing(session: Session, settings: Settings, scored: Run) -> None:
    folder = factories.make_model_folder(settings.data_dir / "models" / "fresh")
    (folder / "generation_config.json").write_text("{}")
    preview = trainings.preview(session, settings, masked(scored, model=str(folder)))
    assert preview.steps == 1
    assert models.find_model(session, str(folder)) is None
    assert not list(runs.list_runs(session, kind="training").items)


# ----------------------------------------------------------------------------------------- for the job


def prepared(session: Session, run: Run, scratch: Path) -> dict[str, Any]:
    factories.claim(session, run)
    return trainings.prepare(session, run, scratch)


def test_the_job_gets_all_that_it_needs(
    session: Session, settings: Settings, scored: Run, tmp_path: Path
) -> None:
    run = trainings.submit(session, settings, masked(scored))
    request = prepared(session, run, tmp_path)
    asked = TrainingRequest.model_validate(request["request"])
    assert (asked.method.name, asked.supervision.source) == ("dpo", "implicit")
    rows = [json.loads(line) for line in Path(request["rows"]).read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"pair-{number}" for number in range(5)]
    records = list(read_maps(Path(request["rewards"])))
    assert len(records) == 10
    assert list(records[0]["token_rewards"]) == ["implicit"]
    expected = factories.by_word_length(factories.preference_pairs(1)[0], "chosen")
    assert records[0]["token_rewards"]["implicit"] == pytest.approx(expected, abs=1e-3)
    sketch = session.get_one(SourceStatistics, (scored.id, "implicit")).sketch
    assert request["statistics"] == {"implicit": sketch}
    assert request["folder"] == run.request["folder"]
    assert request["origin"]["run"] == run.id
    assert request["suites"] == []


def test_only_the_source_that_is_used_goes_along(
    session: Session, settings: Settings, model: Model, tmp_path: Path
) -> None:
    both = factories.make_scored_run(session, settings, 2, sources=["implicit", "rm_prefix"])
    prefix = {"density": "segment", "source": "rm_prefix"}
    request = prepared(
        session, trainings.submit(session, settings, masked(both, supervision=prefix)), tmp_path
    )
    assert {tuple(one["token_rewards"]) for one in read_maps(Path(request["rewards"]))} == {("rm_prefix",)}
    assert list(request["statistics"]) == ["rm_prefix"]


def test_rows_of_extra_data_keep_a_key_of_their_own(
    session: Session, settings: Settings, model: Model, tmp_path: Path
) -> None:
    first, second = factories.make_dataset(session, 2), factories.make_dataset(session, 3, "others")
    asked = body(dataset_id=first.id, extra_dataset_ids=[second.id])
    request = prepared(session, trainings.submit(session, settings, asked), tmp_path)
    keys = [json.loads(line)["id"] for line in Path(request["rows"]).read_text().splitlines()]
    assert keys == ["pair-0", "pair-1", "others/pair-0", "others/pair-1", "pair-2"]
    assert (request["rewards"], request["statistics"]) == (None, None)


def test_what_was_deleted_meanwhile_is_told_of(
    session: Session, settings: Settings, scored: Run, tmp_path: Path
) -> None:
    run = trainings.submit(session, settings, masked(scored))
    with pytest.raises(Conflict, match=f"Run {run.id} is masked by the rewards"):
        runs.delete_run(session, scored.id)
    jobs.cancel(session, run.id)
    runs.delete_run(session, scored.id)
    jobs.retry(session, run.id)
    with pytest.raises(Conflict, match="was deleted"):
        prepared(session, run, tmp_path)


def test_extra_data_in_use_are_not_deleted(session: Session, settings: Settings, model: Model) -> None:
    first, second = factories.make_dataset(session, 2), factories.make_dataset(session, 3, "others")
    trainings.submit(session, settings, body(dataset_id=first.id, extra_dataset_ids=[second.id]))
    with pytest.raises(Conflict, match="works on the data set `others`"):
        datasets.delete_dataset(session, second.id)


def test_a_run_begins_in_an_empty_folder(
    session: Session, settings: Settings, scored: Run, tmp_path: Path
) -> None:
    run = trainings.submit(session, settings, masked(scored))
    stale = Path(run.request["folder"]) / "checkpoints"
    stale.mkdir(parents=True)
    prepared(session, run, tmp_path)
    assert not stale.exists()
    assert stale.parent.with_name(f"{run.id}-found-1").joinpath("checkpoints").exists()
    stale.mkdir(parents=True)
    session.refresh(run.job)
    jobs.hand_back(session, run.job.id, run.job.attempt)
    prepared(session, run, tmp_path)
    assert stale.exists()


# ------------------------------------------------------------------------------------- what the job tells


@pytest.fixture
def training(session: Session, settings: Settings, scored: Run) -> Run:
    return trainings.submit(session, settings, masked(scored, name="My training"))


def points(start: int, end: int, value: float = 1.0) -> MetricPoints:
    return MetricPoints(start, end, {"train/loss": [(step, value) for step in range(start + 1, end + 1)]})


def loss(session: Session, run: Run) -> list[tuple[int, float]]:
    found = metrics.read(session, run.id)["train/loss"].points
    return list(zip(found.steps.tolist(), found.values.tolist(), strict=True))


def test_an_attempt_that_goes_on_replaces_what_came_after_its_checkpoint(
    session: Session, training: Run
) -> None:
    attempt = factories.claim(session, training)
    trainings.store(session, training, attempt, TrainingBegins(0, 10, {"versions": {"torch": "2"}}))
    trainings.store(session, training, attempt, points(0, 4))
    for step in (2, 4):
        saved = CheckpointSaved(step, f"/c/{step}", 1, {}, False, [2, 4])
        trainings.store(session, training, attempt, saved)
    trainings.store(session, training, attempt, points(4, 7))
    jobs.hand_back(session, training.job.id, attempt)
    second = factories.claim(session, training)
    trainings.store(session, training, second, TrainingBegins(2, 10, {"versions": {"torch": "3"}}))
    assert training.job.resume_from == 2
    assert [one.step for one in checkpoints.list_checkpoints(session, training.id)] == [2]
    trainings.store(session, training, second, points(2, 5, 9.0))
    assert loss(session, training) == [(1, 1.0), (2, 1.0), (3, 9.0), (4, 9.0), (5, 9.0)]
    assert training.request["settled"] == {"versions": {"torch": "3"}}
    assert training.request["method"]["name"] == "dpo"


def test_a_hole_in_the_curve_is_a_bug(session: Session, training: Run) -> None:
    attempt = factories.claim(session, training)
    trainings.store(session, training, attempt, TrainingBegins(0, 10))
    with pytest.raises(ValueError, match="updates 0 to 3"):
        trainings.store(session, training, attempt, points(3, 4))


def test_a_late_report_is_refused(session: Session, training: Run) -> None:
    attempt = factories.claim(session, training)
    jobs.hand_back(session, training.job.id, attempt)
    factories.claim(session, training)
    saved = CheckpointSaved(2, "/c/2", 1, {}, False, [2])
    for chunk in (TrainingBegins(0, 10), points(0, 1), saved):
        with pytest.raises(jobs.LostJob):
            trainings.store(session, training, attempt, chunk)
    assert metrics.names(session, training.id) == []
    assert not checkpoints.list_checkpoints(session, training.id)


def test_only_a_checkpoint_forgives_workers_that_died(session: Session, training: Run) -> None:
    attempt = factories.claim(session, training)
    training.job.losses = 2
    trainings.store(session, training, attempt, TrainingBegins(0, 10))
    trainings.store(session, training, attempt, points(0, 1))
    assert training.job.losses == 2
    trainings.store(session, training, attempt, CheckpointSaved(1, "/c/1", 1, {}, False, [1]))
    assert training.job.losses == 0


def finished(session: Session, run: Run) -> dict[str, Any]:
    final = factories.make_model_folder(Path(run.request["folder"]) / "final")
    result = {"steps": 10, "model": str(final), "metrics": {"train/loss": 0.1}}
    return trainings.finish(session, run, result)


def test_the_trained_model_is_registered_once(session: Session, training: Run) -> None:
    first, second = finished(session, training), finished(session, training)
    assert first == second
    model = models.get_model(session, first["model_id"])
    assert (model.name, first["model_name"], first["steps"]) == ("My training", "My training", 10)
    assert model.origin["kind"] == "training"
    assert model.origin["run"] == training.id
    assert model.origin["data"] == [training.request["data_hash"]]


def test_a_name_that_is_taken_is_numbered(session: Session, settings: Settings, training: Run) -> None:
    factories.make_model(session, settings, "My training")
    assert finished(session, training)["model_name"] == "My training (2)"


# ------------------------------------------------------------------------------------------ what is removed


@pytest.fixture
def done(database, settings: Settings) -> Callable[..., Any]:  # type: ignore[no-untyped-def]
    """Makes a training that is over, with checkpoints and, where it is wanted, a registered model."""

    def make(registered: bool) -> tuple[int, Path, int | None]:
        with database.session() as session:
            factories.make_model(session, settings, "model")
            dataset = factories.make_dataset(session, 2)
            run = trainings.submit(session, settings, body(dataset_id=dataset.id))
            folder = Path(run.request["folder"])
            (folder / "checkpoints" / "step-1").mkdir(parents=True)
            result = finished(session, run) if registered else {}
            jobs.cancel(session, run.id)
            return run.id, folder, result.get("model_id")

    return make


def test_a_deleted_run_takes_its_folder_along(database, done) -> None:  # type: ignore[no-untyped-def]
    run_id, folder, _ = done(registered=False)
    with Session(database.engine) as session:
        runs.delete_run(session, run_id)
        session.rollback()
        session.commit()
        with session.begin_nested() as nested:
            runs.delete_run(session, run_id)
            nested.rollback()
        session.commit()
    assert folder.exists()
    with database.session() as session:
        runs.delete_run(session, run_id)
        assert folder.exists()
    assert not folder.exists()


def test_a_deleted_data_set_takes_the_folders_of_its_runs_along(database, done) -> None:  # type: ignore[no-untyped-def]
    run_id, folder, _ = done(registered=False)
    with database.session() as session:
        datasets.delete_dataset(session, runs.get_run(session, run_id).dataset_id or 0)
    assert not folder.exists()


def test_a_registered_model_outlives_its_run(database, done, settings: Settings) -> None:  # type: ignore[no-untyped-def]
    run_id, folder, model_id = done(registered=True)
    with database.session() as session:
        runs.delete_run(session, run_id)
    assert [path.name for path in folder.iterdir()] == ["final"]
    with database.session() as session:
        models.delete_model(session, model_id, settings=settings, files=True)
    assert not folder.exists()


def test_files_of_a_model_stay_unless_they_are_ours(database, done, settings: Settings) -> None:  # type: ignore[no-untyped-def]
    _, folder, model_id = done(registered=True)
    with database.session() as session:
        base = models.find_model(session, "model")
        assert base is not None
        jobless = base.id
    with pytest.raises(models.Forbidden, match="not the server's to remove"), database.session() as session:
        models.delete_model(session, jobless, settings=settings, files=True)
    with database.session() as session:
        models.delete_model(session, model_id)
    assert (folder / "final" / "model.safetensors").exists()
