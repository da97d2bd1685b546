"""Recipes: runs that follow one another, resume where they stopped, and say what failed and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.session import Database
from app.db.tables import JobStatus, Run
from app.errors import Conflict, Invalid, NotFound
from app.services.datasets import datasets
from app.services.evaluations import task_suites
from app.services.models import models
from app.services.recipes import recipes
from app.services.recipes.recipes import RecipeState
from app.services.recipes.requests import SAME_PAIRS
from app.services.recipes.tables import table
from app.services.runs import jobs, runs
from app.settings import Settings
from app.worker import Worker
from engine.errors import RequestError
from tests.app import factories, recipe_handlers
from tests.app.recipe_handlers import World, make_world

ALL = [
    "scorer",
    "scores",
    "rjs sample",
    "rjs segment",
    "rjs union",
    "evaluate base",
    "evaluate rjs sample",
    "evaluate rjs segment",
    "evaluate rjs union",
]
Succeed = Callable[[str], None]


@pytest.fixture
def world(session: Session, settings: Settings) -> World:
    return make_world(session, settings)


@pytest.fixture
def succeed(session: Session, settings: Settings, tmp_path: Path) -> Succeed:
    """Does the queued run of a step, as a worker would."""

    def do(step: str) -> None:
        recipe_handlers.succeed(session, settings, step, tmp_path)

    return do


@pytest.fixture
def failing() -> set[str]:
    """Steps that fail, while they are in here."""
    return set()


@pytest.fixture
def doing(settings: Settings, database: Database, tmp_path: Path, failing: set[str]) -> Iterator[Worker]:
    """A stepped worker that does runs of every kind without a model."""
    worker = Worker(settings, database, recipe_handlers.kinds(tmp_path, failing))
    yield worker
    worker.close()


def statuses(session: Session, recipe_id: int) -> dict[str, str]:
    return {step.name: step.status for step in recipes.get_recipe(session, recipe_id).steps}


def fail(session: Session, step: str) -> None:
    run = session.scalars(select(Run).where(Run.recipe_step == step)).one()
    attempt = factories.claim(session, runs.get_run(session, run.id))
    error = {"code": "diverged", "detail": "The loss is NaN at step 7; lower the learning rate."}
    jobs.fail(session, run.job.id, attempt, JobStatus.failed, error)


def with_status(session: Session, recipe_id: int, status: str) -> list[str]:
    return [name for name, one in statuses(session, recipe_id).items() if one == status]


# ------------------------------------------------------------------------------------------------ how it goes


def test_what_needs_nothing_begins_at_once(session: Session, settings: Settings, world: World) -> None:
    recipe = recipes.submit(session, settings, world.body())
    assert list(statuses(session, recipe.id)) == ALL
    assert with_status(session, recipe.id, "queued") == ["scorer", "rjs sample", "rjs union", "evaluate base"]
    assert recipes.get_recipe(session, recipe.id).status == "queued"


def test_each_step_takes_what_the_earlier_ones_made(
    session: Session, settings: Settings, world: World, succeed: Succeed
) -> None:
    recipe = recipes.submit(session, settings, world.body())
    succeed("scorer")
    state = recipes.get_recipe(session, recipe.id)
    scorer = state.runs["scorer"].result
    assert scorer is not None
    assert state.runs["scores"].request["policy"]["id"] == scorer["model_id"]
    assert state.runs["scores"].request["reference"]["id"] == world.base.id
    succeed("scores")
    state = recipes.get_recipe(session, recipe.id)
    assert state.runs["rjs segment"].request["scoring_run"]["id"] == state.runs["scores"].id
    succeed("rjs segment")
    state = recipes.get_recipe(session, recipe.id)
    trained = state.runs["rjs segment"].result
    assert trained is not None
    assert state.runs["evaluate rjs segment"].request["model"]["id"] == trained["model_id"]
    assert state.runs["evaluate rjs segment"].request["reference"]["id"] == world.base.id


def test_the_scorer_learns_from_one_part_and_trainings_from_the_rest(
    session: Session, settings: Settings, world: World
) -> None:
    recipe = recipes.submit(session, settings, world.body(scorer_share=0.25))
    state = recipes.get_recipe(session, recipe.id)
    parts = {name: run.request["data"]["part"] for name, run in state.runs.items() if run.kind == "training"}
    assert parts["scorer"] == {"start": 0.0, "end": 0.25}
    assert parts["rjs sample"] == {"start": 0.25, "end": 1.0}
    assert parts["rjs union"] == {"start": 0.0, "end": 1.0}


def test_a_scorer_of_other_data_leaves_all_pairs_to_the_trainings(
    session: Session, settings: Settings, world: World
) -> None:
    pool = factories.make_dataset(session, 20, "pool")
    recipe = recipes.submit(session, settings, world.body(scorer_dataset_id=pool.id))
    state = recipes.get_recipe(session, recipe.id)
    assert state.runs["scorer"].dataset_id == pool.id
    assert state.runs["rjs sample"].request["data"]["part"] == {"start": 0.0, "end": 1.0}
    assert [one["id"] for one in state.runs["rjs union"].request["extra_datasets"]] == [pool.id]


def test_every_seed_is_a_training_of_its_own(session: Session, settings: Settings, world: World) -> None:
    recipe = recipes.submit(session, settings, world.body(seeds=[0, 1], union=False))
    state = recipes.get_recipe(session, recipe.id)
    assert [step.name for step in state.steps if step.kind == "training"][1:] == [
        "rjs sample, seed 0",
        "rjs sample, seed 1",
        "rjs segment, seed 0",
        "rjs segment, seed 1",
    ]
    assert state.runs["rjs sample, seed 1"].request["optimisation"]["seed"] == 1


def test_advancing_twice_is_advancing_once(
    session: Session, settings: Settings, world: World, succeed: Succeed
) -> None:
    recipe = recipes.submit(session, settings, world.body())
    succeed("scorer")
    before = session.scalar(select(func.count()).select_from(Run))
    recipes.after_run(session, settings, recipes.get_recipe(session, recipe.id).runs["scorer"].id)
    assert session.scalar(select(func.count()).select_from(Run)) == before


def test_several_who_advance_at_once_submit_each_step_once(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    with database.session() as session:
        recipe = recipes.submit(session, settings, make_world(session, settings).body())
        scorer = recipes.get_recipe(session, recipe.id).runs["scorer"]
        attempt = factories.claim(session, scorer)
        jobs.finish(session, scorer.job.id, attempt, recipe_handlers.leave(session, scorer, tmp_path))

    def advance(_: int) -> None:
        with database.session() as session:
            recipes.after_run(session, settings, scorer.id)

    with ThreadPoolExecutor(4) as all_at_once:
        list(all_at_once.map(advance, range(4)))
    with database.session() as session:
        steps = list(session.scalars(select(Run.recipe_step).where(Run.recipe_id == recipe.id)))
    assert sorted(filter(None, steps)) == sorted(
        ["scorer", "scores", "rjs sample", "rjs union", "evaluate base"]
    )


def test_a_run_of_no_recipe_is_followed_by_nothing(session: Session, settings: Settings) -> None:
    run = jobs.submit(session, kind="test", name="alone", request={})
    recipes.after_run(session, settings, run.id)


def test_a_recipe_that_nobody_advanced_goes_on(
    session: Session, settings: Settings, world: World, succeed: Succeed, tmp_path: Path
) -> None:
    recipe = recipes.submit(session, settings, world.body(densities=["segment"], union=False))
    succeed("evaluate base")
    run = recipes.get_recipe(session, recipe.id).runs["scorer"]
    assert recipes.advance_stuck(session, settings) == []
    attempt = factories.claim(session, run)
    jobs.finish(session, run.job.id, attempt, recipe_handlers.leave(session, run, tmp_path))
    assert recipes.advance_stuck(session, settings) == [recipe.id]
    assert statuses(session, recipe.id)["scores"] == "queued"
    assert recipes.advance_stuck(session, settings) == []


def test_a_worker_does_all_of_it(
    database: Database, settings: Settings, doing: Worker, failing: set[str]
) -> None:
    failing.add("scores")
    with database.session() as session:
        recipe_id = recipes.submit(session, settings, make_world(session, settings).body()).id
    while doing.run_once():
        pass
    with database.session() as session:
        state = recipes.get_recipe(session, recipe_id)
        assert state.status == "failed"
        steps = {step.name: step for step in state.steps}
        assert "The folder has no weights" in (steps["scores"].reason or "")
        assert steps["rjs segment"].reason == "It needs `scores`, which is failed."
        assert steps["evaluate rjs segment"].status == "blocked"
        assert with_status(session, recipe_id, "succeeded") == [
            "scorer",
            "rjs sample",
            "rjs union",
            "evaluate base",
            "evaluate rjs sample",
            "evaluate rjs union",
        ]
        failing.clear()
        jobs.retry(session, state.runs["scores"].id)
    while doing.run_once():
        pass
    with database.session() as session:
        assert recipes.get_recipe(session, recipe_id).status == "succeeded"


# ---------------------------------------------------------------------------------- failing, stopping, again


def test_what_failed_stops_only_what_needs_it_until_it_is_retried(
    session: Session, settings: Settings, world: World, succeed: Succeed
) -> None:
    recipe = recipes.submit(session, settings, world.body())
    fail(session, "scorer")
    state = recipes.get_recipe(session, recipe.id)
    assert state.status == "running"
    assert with_status(session, recipe.id, "blocked") == ["scores", "rjs segment", "evaluate rjs segment"]
    for step in ("rjs sample", "rjs union", "evaluate base", "evaluate rjs sample", "evaluate rjs union"):
        succeed(step)
    assert recipes.get_recipe(session, recipe.id).status == "failed"
    assert recipes.retry(session, settings, recipe.id).status == "running"
    for step in ("scorer", "scores", "rjs segment", "evaluate rjs segment"):
        succeed(step)
    assert recipes.get_recipe(session, recipe.id).status == "succeeded"


def test_a_step_that_cannot_be_submitted_says_why(
    session: Session, settings: Settings, world: World, succeed: Succeed
) -> None:
    recipe = recipes.submit(session, settings, world.body(densities=["segment"], union=False))
    succeed("evaluate base")
    no_room = settings.model_copy(update={"min_free_disk_mib": 2**40})
    run = recipes.get_recipe(session, recipe.id).runs["scorer"]
    succeed_with(session, no_room, run)
    state = recipes.get_recipe(session, recipe.id)
    scores = next(step for step in state.steps if step.name == "scores")
    assert (state.status, scores.status, scores.run_id) == ("failed", "refused", None)
    assert "MiB" in (scores.reason or "")
    assert state.recipe.error is not None
    assert (state.recipe.error["step"], state.recipe.error["code"]) == ("scores", "storage_full")
    assert recipes.advance_stuck(session, settings) == []
    again = recipes.retry(session, settings, recipe.id)
    assert statuses(session, recipe.id)["scores"] == "queued"
    assert again.recipe.error is None
    assert again.runs["scorer"].id == run.id


def succeed_with(session: Session, settings: Settings, run: Run) -> None:
    """Does the run under other settings."""
    attempt = factories.claim(session, run)
    folder = settings.data_dir / "trained"
    jobs.finish(session, run.job.id, attempt, recipe_handlers.leave(session, run, folder))
    recipes.after_run(session, settings, run.id)


def test_a_cancelled_recipe_submits_no_more(
    session: Session, settings: Settings, world: World, tmp_path: Path
) -> None:
    recipe = recipes.submit(session, settings, world.body())
    scorer = recipes.get_recipe(session, recipe.id).runs["scorer"]
    attempt = factories.claim(session, scorer)
    state = recipes.cancel(session, recipe.id)
    assert state.status == "running"
    assert state.runs["rjs sample"].job.status == "cancelled"
    # The scorer's process was about to end when it was told to.
    jobs.finish(session, scorer.job.id, attempt, recipe_handlers.leave(session, scorer, tmp_path))
    recipes.after_run(session, settings, scorer.id)
    assert recipes.get_recipe(session, recipe.id).status == "cancelled"
    assert statuses(session, recipe.id)["scores"] == "cancelled"
    assert recipes.advance_stuck(session, settings) == []
    assert recipes.cancel(session, recipe.id).status == "cancelled"


def test_a_cancelled_recipe_goes_on_when_it_is_retried(
    session: Session, settings: Settings, world: World, succeed: Succeed
) -> None:
    recipe = recipes.submit(session, settings, world.body())
    succeed("scorer")
    recipes.cancel(session, recipe.id)
    state = recipes.retry(session, settings, recipe.id)
    assert state.status == "running"
    assert with_status(session, recipe.id, "queued") == [
        "scores",
        "rjs sample",
        "rjs union",
        "evaluate base",
    ]


def test_a_run_that_was_deleted_is_not_done_again_unasked(
    session: Session, settings: Settings, world: World, succeed: Succeed
) -> None:
    recipe = recipes.submit(session, settings, world.body(densities=["segment"], union=False))
    for step in ("evaluate base", "scorer", "scores", "rjs segment", "evaluate rjs segment"):
        succeed(step)
    runs.delete_run(session, recipes.get_recipe(session, recipe.id).runs["evaluate base"].id)
    assert recipes.advance_stuck(session, settings) == []
    state = recipes.get_recipe(session, recipe.id)
    assert (state.status, statuses(session, recipe.id)["evaluate base"]) == ("failed", "deleted")
    recipes.retry(session, settings, recipe.id)
    assert statuses(session, recipe.id)["evaluate base"] == "queued"


def test_a_recipe_is_deleted_and_its_runs_stay(
    session: Session, settings: Settings, world: World, succeed: Succeed
) -> None:
    recipe = recipes.submit(session, settings, world.body(densities=["sample"], union=False))
    with pytest.raises(Conflict, match="cancel it before"):
        recipes.delete(session, recipe.id)
    for step in ("rjs sample", "evaluate base", "evaluate rjs sample"):
        succeed(step)
    for refused in (recipes.cancel, lambda *given: recipes.retry(given[0], settings, given[1])):
        with pytest.raises(Conflict, match="nothing"):
            refused(session, recipe.id)
    run_id = recipes.get_recipe(session, recipe.id).runs["rjs sample"].id
    recipes.delete(session, recipe.id)
    with pytest.raises(NotFound):
        recipes.get_recipe(session, recipe.id)
    assert runs.get_run(session, run_id).recipe_id is None


def test_recipes_are_listed_newest_first(session: Session, settings: Settings, world: World) -> None:
    made = [recipes.submit(session, settings, world.body(name=name)).id for name in ("one", "two", "three")]
    first = recipes.list_recipes(session, limit=2)
    second = recipes.list_recipes(session, limit=2, cursor=first.next_cursor)
    assert [state.recipe.id for page in (first, second) for state in page.items] == made[::-1]
    assert (first.total, second.next_cursor) == (3, None)
    assert {state.status for state in first.items} == {"queued"}


# -------------------------------------------------------------------------------------------- what is refused


def test_a_suite_in_use_is_not_deleted(session: Session, settings: Settings, world: World) -> None:
    recipe = recipes.submit(session, settings, world.body())
    with pytest.raises(Conflict, match="uses the task suite `sums`"):
        task_suites.delete_suite(session, world.suite.id)
    recipes.cancel(session, recipe.id)
    task_suites.delete_suite(session, world.suite.id)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"optimisation": {"epochs": 2}}, "give the steps of a training"),
        ({"methods": ["rjs", "rjs"]}, "each method once"),
        ({"densities": ["sample", "sample"]}, "each one once"),
        ({"methods": ["orpo"]}, "orpo"),
        ({"source": "rm_prefix"}, "needs a reward model"),
        ({"source": "spans", "scorer": "base"}, "name none"),
        ({"source": "spans", "methods": ["ppo"]}, "samples responses"),
    ],
)
def test_a_request_that_contradicts_itself_is_refused(
    world: World, fields: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        world.body(**fields)


def test_what_a_later_step_could_not_do_is_said_at_once(
    session: Session, settings: Settings, world: World
) -> None:
    one_sided = datasets.import_rows(
        session,
        [factories.preference_pair(number, rejected=None) for number in range(4)],
        name="one side",
        origin={"kind": "upload"},
    )
    with pytest.raises(Invalid, match="has both a chosen and a rejected response"):
        recipes.submit(session, settings, world.body(dataset_id=one_sided.id))
    body = world.body(methods=[{"name": "grpo", "sampling": {"responses": 1}}], densities=["segment"])
    with pytest.raises((Invalid, RequestError), match="at least two"):
        recipes.submit(session, settings, body)
    with pytest.raises(NotFound):
        recipes.submit(session, settings, world.body(held_out_dataset_id=10**6))
    with pytest.raises(Invalid, match="no task suite"):
        recipes.submit(session, settings, world.body(suite_ids=[10**6]))
    assert session.scalar(select(func.count()).select_from(Run)) == 0


def test_a_scorer_of_the_very_pairs_that_it_masks_is_warned_of(
    session: Session, settings: Settings, world: World
) -> None:
    found = recipes.preview(session, settings, world.body(scorer_dataset_id=world.pairs.id))
    assert SAME_PAIRS in found.warnings
    assert "rjs union" not in [step.name for step in found.steps]


def test_a_scorer_that_learned_from_these_pairs_is_warned_of(
    session: Session, settings: Settings, world: World, succeed: Succeed
) -> None:
    scorer = recipe_handlers.make_scorer(session, settings)
    scorer.origin = {"data": [world.pairs.content_hash], "part": {"start": 0.0, "end": 0.5}}
    assert SAME_PAIRS in recipes.preview(session, settings, world.body(scorer=scorer.id)).warnings
    rest = {"part": {"start": 0.5, "end": 1.0}}
    assert (
        SAME_PAIRS not in recipes.preview(session, settings, world.body(scorer=scorer.id, data=rest)).warnings
    )


def test_the_base_is_no_scorer(session: Session, settings: Settings, world: World) -> None:
    with pytest.raises(Invalid, match="is the base policy itself"):
        recipes.submit(session, settings, world.body(scorer=world.base.id))


def test_a_preview_writes_nothing(session: Session, settings: Settings, world: World, tmp_path: Path) -> None:
    folder = factories.make_model_folder(tmp_path / "unknown")
    found = recipes.preview(session, settings, world.body(model=str(folder)))
    assert [step.name for step in found.steps] == ALL
    assert models.find_model(session, str(folder)) is None
    assert recipes.list_recipes(session).total == 0


def test_a_scorer_that_is_there_is_not_trained(session: Session, settings: Settings, world: World) -> None:
    scorer = recipe_handlers.make_scorer(session, settings)
    found = recipes.preview(session, settings, world.body(scorer=scorer.id))
    names = [step.name for step in found.steps]
    assert "scorer" not in names
    assert any("no row of sample + scorer data" in warning for warning in found.warnings)
    recipe = recipes.submit(session, settings, world.body(scorer="scorer"))
    assert recipes.get_recipe(session, recipe.id).runs["scores"].request["policy"]["id"] == scorer.id


def test_nothing_is_scored_for_trainings_without_masks(
    session: Session, settings: Settings, world: World
) -> None:
    found = recipes.preview(session, settings, world.body(methods=["sft", "rjs"], densities=["sample"]))
    assert [step.name for step in found.steps if step.kind != "evaluation"] == ["sft sample", "rjs sample"]
    assert {step.request["data"]["part"]["start"] for step in found.steps[:2]} == {0.0}


def test_on_policy_methods_are_rewarded_by_the_scorer_itself(
    session: Session, settings: Settings, world: World, succeed: Succeed
) -> None:
    recipe = recipes.submit(session, settings, world.body(methods=["grpo"]))
    assert "scores" not in statuses(session, recipe.id)
    assert "grpo union" not in statuses(session, recipe.id)
    succeed("scorer")
    state = recipes.get_recipe(session, recipe.id)
    assert state.runs["scorer"].result is not None
    for density in ("sample", "segment"):
        request = state.runs[f"grpo {density}"].request
        assert request["scorer"]["id"] == state.runs["scorer"].result["model_id"]
        assert request["scorer_reference"]["id"] == world.base.id


# -------------------------------------------------------------------------------------------------- the table


def finished(
    session: Session, settings: Settings, world: World, tmp_path: Path, **fields: object
) -> RecipeState:
    """A recipe of which every run succeeded."""
    recipe = recipes.submit(session, settings, world.body(**fields))
    while True:
        state = recipes.get_recipe(session, recipe.id)
        queued = [run for run in state.runs.values() if run.job.status == "queued"]
        if not queued:
            return state
        attempt = factories.claim(session, queued[0])
        jobs.finish(session, queued[0].job.id, attempt, recipe_handlers.leave(session, queued[0], tmp_path))
        recipes.after_run(session, settings, queued[0].id)


def test_the_table_has_a_row_for_each_density(
    session: Session, settings: Settings, world: World, tmp_path: Path
) -> None:
    found = table(finished(session, settings, world, tmp_path))
    assert [(column.suite, column.metric) for column in found.columns] == [("sums", "success")]
    assert [(row.method, row.density) for row in found.rows] == [
        (None, "base"),
        ("rjs", "sample"),
        ("rjs", "segment"),
        ("rjs", "union"),
    ]
    base, _, segment, _ = found.rows
    assert base.cells[0] is not None
    assert (base.cells[0].value, base.cells[0].change, base.collapsed, base.steps) == (0.5, None, None, None)
    cell = segment.cells[0]
    assert cell is not None
    assert (cell.value, cell.low, cell.high, cell.change) == (0.8, 0.4, 0.9, pytest.approx(0.3))
    assert (segment.kept_chosen, segment.kept_rejected) == (0.75, 0.5)
    assert (segment.steps, segment.tokens, segment.seconds, segment.collapsed) == (200, 1000, 2.0, False)
    assert segment.held_out_loss is not None
    assert "200 updates of 16" in found.compute


def test_seeds_give_a_mean_and_its_interval(
    session: Session, settings: Settings, world: World, tmp_path: Path
) -> None:
    found = table(finished(session, settings, world, tmp_path, seeds=[0, 1], union=False))
    row = next(row for row in found.rows if row.density == "segment")
    cell = row.cells[0]
    assert cell is not None
    assert row.seeds == 2
    assert cell.value == pytest.approx(0.81)
    # Two values .02 apart: standard error .01, and t of one degree of freedom is 12.706.
    assert (cell.low, cell.high) == (pytest.approx(0.81 - 0.12706), pytest.approx(0.81 + 0.12706))


def test_success_that_fell_below_the_base_is_a_collapse(
    session: Session, settings: Settings, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(recipe_handlers.SUCCESS, "segment", 0.47)
    monkeypatch.setitem(recipe_handlers.SUCCESS, "sample", 0.49)
    rows = {row.density: row for row in table(finished(session, settings, world, tmp_path)).rows}
    assert (rows["segment"].collapsed, rows["sample"].collapsed) == (True, False)


def test_a_table_is_there_from_the_beginning(session: Session, settings: Settings, world: World) -> None:
    recipe = recipes.submit(session, settings, world.body())
    found = table(recipes.get_recipe(session, recipe.id))
    assert found.columns == []
    assert [row.status for row in found.rows] == ["queued", "queued", "waiting", "queued"]
    assert {row.collapsed for row in found.rows} == {None}


def test_the_reference_of_a_scoring_is_proposed_as_the_base(
    session: Session, settings: Settings, world: World
) -> None:
    assert recipes.defaults(session, world.pairs) == {"dataset_id": world.pairs.id}
    run = factories.make_run(session, settings, world.pairs)
    proposed = recipes.defaults(session, world.pairs)
    assert proposed["model"] == run.request["reference"]["id"]
    assert models.get_model(session, proposed["model"]).name == "reference"
