"""A build is whole or not there, is found again, and can be loaded by anybody."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from engine.errors import Cancelled
from engine.formats.canonical import read_pairs
from engine.formats.reading import read_suite
from engine.lab.build import BuildSettings, LabBuild, build
from engine.lab.models import make_tokenizer
from engine.lab.world import LONGEST_ANSWER, World, WorldSettings, copy_item
from engine.types import Progress

SMALL = BuildSettings(
    world=WorldSettings(pairs=6, pool_pairs=8, held_out_pairs=2, documents=60, suite_tasks=3),
    policy_steps=2,
    scorer_steps=2,
    reward_model_steps=2,
)


class Listener:
    """Hears reports; says stop in the phase it is told."""

    def __init__(self, stop_in: str | None = None) -> None:
        self.heard: list[Progress] = []
        self.stop_in = stop_in

    def __call__(
        self, progress: Progress | None = None, chunk: object = None, message: str | None = None
    ) -> None:
        if progress is not None:
            self.heard.append(progress)
            if progress.phase == self.stop_in:
                raise Cancelled("The job was cancelled.")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> LabBuild:
    return build(tmp_path_factory.mktemp("lab"), Listener(), SMALL)


def test_a_build_tells_its_phases_with_totals(tmp_path: Path) -> None:
    listener = Listener()
    build(tmp_path, listener, SMALL)
    assert [(p.phase, p.done, p.total) for p in listener.heard[1:]] == [
        ("pretraining the policy", 2, 2),
        ("training the scorers", 4, 4),
    ]


def test_a_second_build_is_found_and_says_nothing(made: LabBuild) -> None:
    listener = Listener()
    assert build(made.folder.parent, listener, SMALL) == made
    assert listener.heard == []


def test_other_settings_are_built_elsewhere(made: LabBuild, tmp_path: Path) -> None:
    other = BuildSettings(SMALL.world, policy_steps=1, scorer_steps=1, reward_model_steps=0)
    built = build(tmp_path, Listener(), other)
    assert built.folder.name != made.folder.name
    assert built.reward_model is None


def test_the_same_settings_give_the_same_weights(made: LabBuild, tmp_path: Path) -> None:
    again = build(tmp_path, Listener(), SMALL)
    for part in ("base", "scorer", "reward_model"):
        name = f"{part}/model.safetensors"
        assert (again.folder / name).read_bytes() == (made.folder / name).read_bytes()


def test_a_stopped_build_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        build(tmp_path, Listener(stop_in="training the scorers"), SMALL)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_build_left_is_swept_away(made: LabBuild, tmp_path: Path) -> None:
    left = tmp_path / f".{made.folder.name}.999999999.x"
    left.mkdir()
    built = build(tmp_path, Listener(), SMALL)
    assert list(tmp_path.iterdir()) == [built.folder]


def test_the_pairs_of_a_build_are_those_of_its_world(made: LabBuild) -> None:
    world = World(SMALL.world)
    assert list(read_pairs(made.pairs)) == world.pairs
    assert list(read_pairs(made.held_out)) == world.held_out_pairs
    assert list(read_pairs(made.pool)) == world.pool


def test_the_suite_of_a_build_holds_its_worlds_tasks(made: LabBuild) -> None:
    assert list(read_suite(made.suite)) == World(SMALL.world).tasks()


def test_a_task_leaves_room_for_every_answer() -> None:
    world = World(WorldSettings(documents=2000))
    tokenizer = make_tokenizer(prompt + "\n" + response for prompt, response in world.documents())
    items = [*world.facts, *world.misconceptions, *world.sums, *world.orders]
    items += [copy_item(random.Random(seed)) for seed in range(200)]
    longest = max(
        len(tokenizer(" " + answer, add_special_tokens=False)["input_ids"])
        for item in items
        for answer in (item.right, *item.wrongs)
    )
    assert longest < LONGEST_ANSWER


def test_the_models_of_a_build_load_as_any_other(made: LabBuild) -> None:
    assert made.reward_model is not None
    AutoModelForCausalLM.from_pretrained(made.base)
    AutoModelForCausalLM.from_pretrained(made.scorer)
    model = AutoModelForSequenceClassification.from_pretrained(made.reward_model)
    assert model.config.num_labels == 1
    assert AutoTokenizer.from_pretrained(made.base)("Peru")["input_ids"][0] == model.config.bos_token_id
