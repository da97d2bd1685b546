"""PPO, GRPO, RLOO and sampled rejection sampling on tiny real models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from engine.training.method_loop import Shard
from engine.training.rollouts import Rollout
from tests.engine.training.on_policy import Trial, World, drawn, make_world, trial

PPO = {"name": "ppo", "epochs": 1, "minibatches": 1}
METHODS: dict[str, dict[str, Any]] = {
    "ppo": PPO,
    "ppo, masked": {**PPO, "dense": "both"},
    "grpo": {"name": "grpo"},
    "grpo, masked": {"name": "grpo", "form": "mask"},
    "rloo": {"name": "rloo"},
    "rjs": {"name": "rjs"},
}
every_method = pytest.mark.parametrize("name", METHODS)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("on_policy"))


def _trial(world: World, name: str, **options: Any) -> Trial:
    return trial(world, dict(METHODS[name]), density="segment", **options)


@pytest.mark.parametrize("name", ["ppo", "ppo, masked", "grpo", "grpo, masked", "rloo"])
def test_the_first_loss_is_minus_the_masked_mean_of_the_advantages(world: World, name: str) -> None:
    one = _trial(world, name)
    examples = drawn(one)
    found = one.loop.loss(one.model, examples, one.loop.totals(examples))
    total = sum(float((example.weights * example.advantages).sum()) for example in examples)
    expected = -total / sum(float(example.weights.sum()) for example in examples)
    critic = found.sums.get("train/value_loss", (0.0, 0.0))[0]
    assert float(found.loss.detach()) - 0.5 * critic == pytest.approx(expected, abs=1e-5)
    assert found.sums["train/clipped"][0] == 0
    assert found.sums["train/kl"][0] == pytest.approx(0, abs=1e-4)


@every_method
def test_gradients_do_not_depend_on_how_a_batch_is_split(world: World, name: str) -> None:
    one = _trial(world, name)
    examples = drawn(one)
    totals = one.loop.totals(examples)
    whole = one.gradients([examples], totals)
    for parts in ([[example] for example in examples], [examples[::2], examples[1::2]]):
        for key, gradient in one.gradients(parts, totals).items():
            torch.testing.assert_close(gradient, whole[key], atol=1e-5, rtol=1e-4)


@every_method
def test_gradients_do_not_depend_on_the_number_of_processes(world: World, name: str) -> None:
    alone = _trial(world, name)
    examples = drawn(alone)
    whole = alone.gradients([examples], alone.loop.totals(examples))
    heard: list[list[Rollout]] = [[], []]
    for rank in (0, 1):  # What each process would tell.
        told: list[Rollout] = heard[rank]
        drawn(
            _trial(world, name, exchange=lambda mine, told=told: [told.extend(mine) or mine]),
            0,
            Shard(rank, 2),
        )
    processes = [_trial(world, name, exchange=lambda mine: heard) for _ in (0, 1)]
    shares = [drawn(one, 0, Shard(rank, 2)) for rank, one in enumerate(processes)]
    assert sorted(len(share) for share in shares) == [len(examples) // 2, len(examples) - len(examples) // 2]
    totals = [one.loop.totals(share) for one, share in zip(processes, shares, strict=True)]
    summed = {key: totals[0][key] + totals[1][key] for key in totals[0]}
    parts = [one.gradients([share], summed) for one, share in zip(processes, shares, strict=True)]
    for key, gradient in whole.items():
        torch.testing.assert_close(parts[0][key] + parts[1][key], gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["grpo", "grpo, masked", "rloo"])
def test_equal_rewards_give_no_gradient(world: World, name: str) -> None:
    one = _trial(world, name, models={"scorer": world.policy, "scorer_reference": world.policy})
    examples = drawn(one)
    gradients = one.gradients([examples], one.loop.totals(examples))
    assert all(float(gradient.abs().max()) < 1e-6 for gradient in gradients.values())


@pytest.mark.parametrize("name", ["ppo, masked", "grpo, masked", "rjs"])
def test_what_stands_at_masked_tokens_moves_nothing(world: World, name: str) -> None:
    one = _trial(world, name)
    examples = drawn(one)
    assert any((example.weights == 0).any() for example in examples)
    changed = [
        replace(example, advantages=np.where(example.weights > 0, example.advantages, 99).astype(np.float32))
        for example in examples
    ]
    totals = one.loop.totals(examples)
    before, after = one.gradients([examples], totals), one.gradients([changed], totals)
    for key, gradient in before.items():
        torch.testing.assert_close(after[key], gradient, atol=0, rtol=0)


def test_a_mask_keeps_what_agrees_with_the_sign_of_the_advantage(world: World) -> None:
    one = _trial(world, "grpo, masked")
    compared = 0
    for example in drawn(one):
        rewards = example.rollout.said.token_rewards
        kept, left = rewards[example.weights > 0], rewards[example.weights == 0]
        if len(kept) < 2 or not len(left) or not example.advantages.any():
            continue
        compared += 1
        if example.advantages[0] > 0:
            assert kept.max() > left.min()
        else:
            assert kept.min() < left.max()
    assert compared > 2


def test_shaping_moves_credit_within_a_response_only(world: World) -> None:
    shaped, plain = (
        drawn(trial(world, {"name": "grpo"}, density=density)) for density in ("token", "sample")
    )
    moved = 0
    for one, other in zip(shaped, plain, strict=True):
        assert one.advantages.mean() == pytest.approx(other.advantages[0], abs=1e-5)
        moved += float(np.ptp(one.advantages)) > 0.1
    assert moved > len(shaped) / 2


def test_soft_weights_scale_the_surrogate(world: World) -> None:
    one = _trial(world, "grpo, masked", rule={"soft_tau": 0.5})
    examples = drawn(one)
    weights = np.concatenate([example.weights for example in examples])
    assert np.any((weights > 0) & (weights < 1))
    found = one.loop.loss(one.model, examples, one.loop.totals(examples))
    total = sum(float((example.weights * example.advantages).sum()) for example in examples)
    assert float(found.loss.detach()) == pytest.approx(-total / weights.sum(), abs=1e-5)


def test_minibatches_of_an_epoch_are_all_rollouts_once(world: World) -> None:
    one = trial(world, {"name": "ppo", "epochs": 2, "minibatches": 3})
    assert one.loop.updates_per_rollout_phase == 6
    epochs = []
    for epoch in range(2):
        batches = [drawn(one, 3 * epoch + part) for part in range(3)]
        epochs.append([id(example) for batch in batches for example in batch])
        assert len(set(epochs[-1])) == len(epochs[-1]) == 16
    assert set(epochs[0]) == set(epochs[1])
    assert epochs[0] != epochs[1]


@every_method
def test_a_restored_loop_goes_on_as_if_nothing_had_been(world: World, name: str) -> None:
    one = _trial(world, name)
    one.train(range(2))
    weights = {key: value.detach().clone() for key, value in one.model.named_parameters().items()}
    state = one.loop.state()
    expected = drawn(one, 2)
    other = _trial(world, name)
    with torch.no_grad():
        for key, value in other.model.named_parameters().items():
            value.copy_(weights[key])
    other.loop.restore(state)
    for before, after in zip(expected, drawn(other, 2), strict=True):
        for track in ("weights", "advantages"):
            np.testing.assert_array_equal(getattr(after, track), getattr(before, track))
        np.testing.assert_array_equal(after.rollout.ids, before.rollout.ids)


def test_the_best_response_is_the_one_that_is_learnt_from(world: World) -> None:
    one = _trial(world, "rjs")
    examples = drawn(one)
    assert [example.rollout.place for example in examples] == [0, 1, 2, 3]
    found = one.loop.loss(one.model, examples, one.loop.totals(examples)).sums
    mean, best = found["train/reward"], found["train/chosen_reward"]
    assert best[0] / best[1] > mean[0] / mean[1]


@pytest.mark.parametrize("name", ["ppo", "grpo", "rloo", "rjs"])
def test_the_policy_learns_what_the_scorer_likes(world: World, name: str) -> None:
    one = trial(world, dict(METHODS[name]), density="token", batch_size=6)
    rewards = one.train(range(20))
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.5
