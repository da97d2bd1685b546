"""Rollouts: the same however they are made, and rewarded by frozen models on the tokens that were drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from engine.errors import RequestError
from engine.language_models import load_reward_model
from engine.ragged import Row
from engine.reading import read_values
from engine.sampling import Drawn
from engine.training.method_loop import Shard
from engine.training.rollout_rewards import BETA
from engine.training.rollout_segments import dense_rewards, whole_rewards
from engine.training.rollouts import Rollout
from engine.training.shared_prompts import rows_by_prompt
from tests.engine.training.on_policy import TEXTS, World, drawn, make_world, trial

PPO = {"name": "ppo", "epochs": 1, "minibatches": 1}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("on_policy"))


def _rollouts(world: World, **options: Any) -> list[Rollout]:
    found = [one.rollout for one in drawn(trial(world, dict(PPO), **options))]
    return sorted(found, key=lambda one: (one.place, one.number))


def test_rollouts_do_not_depend_on_the_token_budget(world: World) -> None:
    for one, other in zip(
        _rollouts(world, token_budget=256), _rollouts(world, token_budget=8192), strict=True
    ):
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)


def test_rollouts_do_not_depend_on_the_number_of_processes(world: World) -> None:
    heard: list[list[Rollout]] = []

    def listen(mine: list[Rollout]) -> list[list[Rollout]]:
        heard.append(mine)
        return heard

    alone = _rollouts(world)
    for rank in range(2):
        together = trial(world, dict(PPO), exchange=listen)
        drawn(together, shard=Shard(rank, 2))
    shared = sorted((one for mine in heard for one in mine), key=lambda one: (one.place, one.number))
    assert [len(mine) for mine in heard] == [8, 8]
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)


def test_responses_to_one_prompt_differ_and_so_do_those_of_another_update(world: World) -> None:
    one = trial(world, dict(PPO))
    first, second = drawn(one, 0), drawn(one, 1)
    said = [{tuple(example.rollout.ids.tolist()) for example in examples} for examples in (first, second)]
    assert len(said[0]) > 8
    assert said[0] != said[1]


def test_implicit_rewards_are_those_of_the_scorer(world: World) -> None:
    one = trial(world, dict(PPO))
    assert one.frozen.scorer is not None
    scorer, base = one.frozen.scorer.model, one.frozen.scorer_reference
    assert base is not None
    for example in drawn(one)[:3]:
        rollout = example.rollout
        ids = torch.from_numpy(np.concatenate([rollout.prompt, rollout.ids]).astype(np.int64))[None]
        ratio = [
            model(ids).logits[0, len(rollout.prompt) - 1 : -1].log_softmax(-1)
            for model in (scorer, base.model)
        ]
        targets = torch.from_numpy(rollout.ids.astype(np.int64))[:, None]
        expected = BETA * (ratio[0] - ratio[1]).gather(1, targets)[:, 0]
        np.testing.assert_allclose(rollout.said.token_rewards, expected.detach(), atol=1e-4)
        assert rollout.reward == pytest.approx(float(expected.sum()), abs=1e-3)


@pytest.mark.parametrize("source", ["rm_prefix", "rm_increment"])
def test_a_reward_model_gives_the_value_after_the_last_token(world: World, source: str) -> None:
    judge = AutoModelForSequenceClassification.from_pretrained(world.reward_model.path).requires_grad_(False)
    for rollout in _rollouts(world, source=source, models={"reward_model": world.reward_model})[:3]:
        ids = torch.from_numpy(np.concatenate([rollout.prompt, rollout.ids]).astype(np.int64))[None]
        assert rollout.reward == pytest.approx(float(judge(ids).logits), abs=1e-4)
        first = float(judge(ids[:, : len(rollout.prompt)]).logits)
        assert rollout.said.increments.sum() == pytest.approx(rollout.reward - first, abs=1e-4)


def test_a_reward_model_with_another_tokenizer_reads_the_text(world: World) -> None:
    tokenizer = AutoTokenizer.from_pretrained(world.stranger.path)
    judge = load_reward_model(world.stranger)
    found = _rollouts(world, source="rm_increment", models={"reward_model": world.stranger})
    compared = 0
    for rollout in found:
        assert rollout.said.decoded is not None
        text = TEXTS[rollout.place] + rollout.said.decoded.text
        ids = tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] * rollout.ended
        prompt = tokenizer(TEXTS[rollout.place])["input_ids"]
        if ids[: len(prompt)] != prompt or not rollout.said.decoded.text:
            continue  # A token lies across the seam.
        row = Row(np.array(prompt, np.int32), (np.array(ids[len(prompt) :], np.int32),))
        values = read_values(judge, [row], 8192)[0][0]
        assert rollout.reward == pytest.approx(float(values[-1]), abs=1e-4)
        assert rollout.said.increments.sum() == pytest.approx(float(values[-1] - values[0]), abs=1e-4)
        assert len(rollout.said.increments) == len(rollout.ids)
        compared += 1
    assert compared > 3


def test_a_response_of_an_eos_alone_is_rewarded(world: World) -> None:
    one = trial(world, dict(PPO), source="rm_increment", models={"reward_model": world.stranger})
    eos = np.array([one.model.tokenizer.eos_token_id], np.int32)
    prompt = np.array(one.model.tokenizer("The sky")["input_ids"], np.int32)
    answer = Drawn(eos, np.zeros(1, np.float32), True)
    (said,) = one.loop._rollouts._rewards(rows_by_prompt([(prompt, eos)]), ["The sky"], [answer])
    assert np.isfinite(said.total)
    assert len(said.increments) == 1


def test_a_response_that_runs_to_the_limit_is_counted(world: World) -> None:
    one = trial(world, {**PPO, "sampling": {"max_new_tokens": 2}})
    examples = drawn(one)
    found = one.loop.loss(one.model, examples, one.loop.totals(examples)).sums["train/truncated"]
    assert found == (sum(example.rollout.ids[-1] != 1 for example in examples), len(examples))
    assert found[0] > 0


def test_a_prompt_that_fills_the_context_is_refused_by_name(world: World) -> None:
    with pytest.raises(RequestError, match=r"row `0`.*max_prompt_tokens"):
        drawn(trial(world, dict(PPO), texts=["x" * 256]))


@pytest.mark.parametrize("placing", ["ends", "spread"])
@pytest.mark.parametrize("density", ["sample", "step", "token", "segment"])
@pytest.mark.parametrize("models", ["scorer", "reward_model", "both"])
def test_rewards_sum_to_the_same_at_every_density(
    world: World, models: str, density: str, placing: Any
) -> None:
    named = {
        "scorer": {"scorer": world.scorer},
        "reward_model": {"reward_model": world.reward_model},
        "both": {"scorer": world.scorer, "reward_model": world.reward_model},
    }
    source = "rm_increment" if models == "reward_model" else "implicit"
    one = trial(world, dict(PPO), density=density, source=source, models=named[models])
    rollouts = [example.rollout for example in drawn(one)]
    segments = one.loop.segments
    earned = segments.earned(rollouts)
    cut = segments.cut(rollouts, [1] * len(rollouts))
    dense, whole = dense_rewards(earned, cut, placing=placing), whole_rewards(earned)
    for rollout, of_tokens, at_end in zip(rollouts, dense, whole, strict=True):
        assert len(of_tokens) == len(rollout.ids)
        assert of_tokens.sum() == pytest.approx(at_end.sum())
        if density == "sample" and placing == "ends":
            np.testing.assert_allclose(of_tokens, at_end)
    if models != "scorer":
        assert earned.rewards == [rollout.reward for rollout in rollouts]


def test_length_earns_nothing_on_average(world: World) -> None:
    one = trial(world, dict(PPO))
    earned = one.loop.segments.earned([example.rollout for example in drawn(one)])
    assert sum(earned.rewards) == pytest.approx(0, abs=1e-6)


def test_a_look_answers_alike_each_time_and_counts_the_processes_up(world: World) -> None:
    one = trial(world, dict(PPO))
    once, twice = (one.loop.evaluate(one.model, Shard(0, 1)) for _ in range(2))
    assert once == twice
    assert set(once) == {"held_out/reward", "held_out/kl", "held_out/response_tokens"}
    halves = [one.loop.evaluate(one.model, Shard(rank, 2)) for rank in range(2)]
    for name, (total, weight) in once.items():
        assert sum(half[name][0] for half in halves) == pytest.approx(total, abs=1e-4)
        assert sum(half[name][1] for half in halves) == weight
    assert once["held_out/kl"][0] == pytest.approx(0, abs=1e-5)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
def test_dropout_of_an_adapter_rests_while_responses_are_drawn_and_read(world: World) -> None:
    one = trial(world, dict(PPO), lora={"rank": 4, "dropout": 0.5})
    modules = dict(one.model.language_model.named_modules())
    dropouts = [module for name, module in modules.items() if name.endswith("lora_dropout.default")]
    with torch.no_grad():
        for name, weight in one.model.named_parameters().items():
            if "lora_B" in name:
                weight.normal_(0, 0.3)
    assert all(module.training for module in dropouts)
    rollouts = [example.rollout for example in drawn(one)]
    assert dropouts
    assert all(module.training for module in dropouts)
    for module in dropouts:
        module.eval()
    read = one.model.read_quietly([Row(rollout.prompt, (rollout.ids,)) for rollout in rollouts], 8192)
    for rollout, tracks in zip(rollouts, read, strict=True):
        np.testing.assert_allclose(tracks[0]["logprobs"], rollout.logprobs, atol=1e-4)
