import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.training.advantages import (
    centred,
    gae,
    grpo_advantages,
    masked_advantages,
    rloo_advantages,
    shaped_advantages,
    whiten,
)
from engine.training.losses.ppo import surrogate_loss

WORKED = json.loads((Path(__file__).parents[2] / "oracles.json").read_text())["gae"]
NAN = math.nan
seeds = given(seed=st.integers(0, 10**6))
few = settings(max_examples=25, deadline=None)


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def some(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("lambda_", "name"), [(1.0, "A_g1_l1"), (0.95, "A_g1_l095")])
def test_gae_is_the_worked_one_and_padding_changes_nothing(lambda_, name):
    rewards, values = row(*WORKED["r"], NAN, 9.0), row(*WORKED["v"], NAN, 9.0)
    mask = torch.tensor([[True] * 4 + [False] * 2])
    found = gae(rewards, values, mask, gamma=1.0, lambda_=lambda_)
    assert found.advantages[0].tolist() == pytest.approx([*WORKED[name], 0, 0], abs=1e-12)
    returns = [a + v for a, v in zip(WORKED[name], WORKED["v"], strict=True)]
    assert found.returns[0].tolist() == pytest.approx([*returns, 0, 0], abs=1e-12)


@seeds
@few
def test_gae_without_discount_is_the_rest_of_the_rewards_less_the_value(seed):
    rewards, values = some(seed, 3, 7), some(seed + 1, 3, 7)
    mask = torch.arange(7) < torch.tensor([[7], [3], [0]])
    found = gae(rewards, values, mask, gamma=1.0, lambda_=1.0)
    rest = (rewards * mask).flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(found.advantages, (rest - values) * mask)


def test_gae_without_lambda_is_the_error_of_one_step():
    found = gae(row(1, 2), row(0.5, 4), torch.tensor([[True, True]]), gamma=0.9, lambda_=0.0)
    assert found.advantages[0].tolist() == pytest.approx([1 + 0.9 * 4 - 0.5, 2 - 4])


def test_gae_discounts_by_gamma_and_lambda():
    found = gae(row(1, 2), row(0.5, 4), torch.tensor([[True, True]]), gamma=0.9, lambda_=0.5)
    assert found.advantages[0].tolist() == pytest.approx([4.1 + 0.9 * 0.5 * -2, -2])


@seeds
@few
def test_whitened_values_have_mean_zero_and_variance_one(seed):
    values, mask = some(seed, 4, 6), torch.arange(6) < torch.tensor([[6], [2], [1], [0]])
    whitened = whiten(values.masked_fill(~mask, NAN), mask)
    assert not whitened[~mask].any()
    torch.testing.assert_close(whitened[mask].mean(), torch.tensor(0.0, dtype=torch.float64))
    assert whitened[mask].var(correction=0).item() == pytest.approx(1, rel=1e-4)
    kept = whiten(values, mask, centre=False)[mask]
    torch.testing.assert_close(kept.mean(), values[mask].mean())


def test_equal_values_whiten_to_zero():
    mask = torch.tensor([[True, True, True, False]])
    assert whiten(row(0.1, 0.1, 0.1, NAN), mask).tolist() == [[0, 0, 0, 0]]
    assert whiten(row(0.1, NAN, NAN, NAN), mask & (torch.arange(4) < 1)).tolist() == [[0, 0, 0, 0]]
    assert whiten(row(NAN), torch.tensor([[False]])).tolist() == [[0]]


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -1e8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rewards_of_a_group_give_exactly_zero(value, dtype):
    rewards = torch.full((2, 3), value, dtype=dtype)
    assert not grpo_advantages(rewards).any()
    assert not grpo_advantages(rewards, scale="none").any()
    assert not rloo_advantages(rewards).any()
    assert grpo_advantages(rewards[:, :1]).tolist() == [[0], [0]]


def test_group_relative_advantages_by_hand():
    rewards = row(1, 0, 0, 1)
    assert grpo_advantages(rewards, scale="none")[0].tolist() == [0.5, -0.5, -0.5, 0.5]
    assert grpo_advantages(rewards)[0].tolist() == pytest.approx([x / 0.5001 for x in (0.5, -0.5, -0.5, 0.5)])
    assert rloo_advantages(rewards)[0].tolist() == pytest.approx([2 / 3, -2 / 3, -2 / 3, 2 / 3])


@seeds
@few
def test_rloo_compares_with_the_mean_of_the_others(seed):
    rewards = some(seed, 2, 4)
    others = torch.stack([rewards[:, [j for j in range(4) if j != i]].mean(1) for i in range(4)], 1)
    torch.testing.assert_close(rloo_advantages(rewards), rewards - others)


def test_rloo_refuses_a_group_of_one():
    with pytest.raises(ValueError, match="sample at least two"):
        rloo_advantages(row(1.0))


@seeds
@few
def test_the_two_ways_of_masking_differ_by_the_kept_fraction(seed):
    completion = torch.arange(6) < torch.tensor([[6], [4]])
    mask = completion & (some(seed, 2, 6) > -0.3)
    logprobs, old, advantages = some(seed + 1, 2, 6), some(seed + 2, 2, 6), some(seed + 3, 2)
    by_advantages = surrogate_loss(logprobs, old, masked_advantages(advantages, mask), completion)
    by_mask = surrogate_loss(logprobs, old, advantages[:, None].expand(2, 6), mask)
    torch.testing.assert_close(by_advantages.loss, by_mask.loss * mask.sum() / completion.sum())


@seeds
@few
def test_shaping_moves_credit_within_a_response_only(seed):
    completion = torch.arange(5) < torch.tensor([[5], [2], [0]])
    advantages, rewards = some(seed, 3), some(seed + 1, 3, 5).masked_fill(~completion, NAN)
    shaped = shaped_advantages(advantages, rewards, completion, alpha=0.7)
    assert not shaped[~completion].any()
    for i in range(2):
        torch.testing.assert_close(shaped[i][completion[i]].mean(), advantages[i])
        difference = shaped[i, 1] - shaped[i, 0]
        torch.testing.assert_close(difference, 0.7 * (rewards[i, 1] - rewards[i, 0]))


def test_centred_rewards_sum_to_zero_in_every_response():
    rewards = torch.tensor([[1.0, 2.0, 6.0], [5.0, math.nan, math.nan]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert centred(rewards, mask).tolist() == [[-2.0, -1.0, 3.0], [0.0, 0.0, 0.0]]
