import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.training.losses.ppo import kl_loss, penalised_rewards, surrogate_loss, token_kl, value_loss

NAN = math.nan


def some(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_with_ratio_one_the_loss_is_minus_the_masked_mean_of_the_advantages(seed):
    logprobs = some(seed, 3, 5).requires_grad_()
    advantages, mask = some(seed + 1, 3, 5), some(seed + 2, 3, 5) > -0.5
    result = surrogate_loss(logprobs, logprobs.detach().clone(), advantages, mask)
    torch.testing.assert_close(result.loss, -advantages[mask].sum() / mask.sum().clamp(min=1))
    result.loss.backward()
    torch.testing.assert_close(logprobs.grad, -advantages * mask / mask.sum().clamp(min=1))
    assert not logprobs.grad[~mask].any()
    assert result.clipped == 0
    assert result.kl_to_old == 0


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [(1.5, 2.0, -2.4, 1), (0.5, 2.0, -1.0, 0), (1.5, -2.0, 3.0, 0), (0.5, -2.0, 1.6, 1)],
)
def test_the_clip_bounds_only_what_would_gain(ratio, advantage, loss, clipped):
    logprobs = torch.tensor([[math.log(ratio), NAN]], requires_grad=True)
    mask = torch.tensor([[True, False]])
    result = surrogate_loss(logprobs, torch.zeros(1, 2), torch.tensor([[advantage, NAN]]), mask)
    result.loss.backward()
    assert result.loss.item() == pytest.approx(loss)
    assert result.clipped.item() == clipped
    assert (logprobs.grad[0, 0].item() == 0) == bool(clipped)
    assert logprobs.grad[0, 1] == 0


def test_the_value_loss_takes_the_worse_of_the_clipped_and_the_free_error():
    values = torch.tensor([[1.0, 1.0, NAN]], requires_grad=True)
    old_values, returns = torch.tensor([[0.0, 0.9, NAN]]), torch.tensor([[2.0, 0.0, NAN]])
    mask = torch.tensor([[True, True, False]])
    loss = value_loss(values, old_values, returns, mask, clip=0.2)
    assert loss.item() == pytest.approx(0.5 * (1.8**2 + 1.0**2) / 2)
    plain = value_loss(values, old_values, returns, mask, clip=None)
    assert plain.item() == pytest.approx(0.5 * (1.0 + 1.0) / 2)
    plain.backward()
    assert values.grad.tolist() == [[-0.5, 0.5, 0.0]]


def test_the_estimates_of_kl_by_hand():
    logprobs, reference = torch.tensor([[-1.0, NAN]]), torch.tensor([[-1.5, NAN]])
    mask = torch.tensor([[True, False]])
    for estimator, expected in (("k1", 0.5), ("k2", 0.125), ("k3", math.exp(-0.5) - 0.5)):
        kl = token_kl(logprobs, reference, mask, estimator=estimator)
        assert kl[0].tolist() == pytest.approx([expected, 0.0])
    assert kl_loss(logprobs, reference, mask).item() == pytest.approx(math.exp(-0.5) - 0.5)


def test_rewards_pay_for_leaving_the_reference():
    rewards = torch.tensor([[0.0, 1.0, NAN]])
    logprobs, reference = torch.tensor([[-1.0, -2.0, NAN]]), torch.tensor([[-1.5, -1.0, NAN]])
    mask = torch.tensor([[True, True, False]])
    paid = penalised_rewards(rewards, logprobs, reference, mask, kl_coef=0.1)
    assert paid[0].tolist() == pytest.approx([-0.05, 1.1, 0.0])


def test_only_the_policy_and_the_critic_are_trained():
    tracks = [some(seed, 2, 3).requires_grad_() for seed in range(5)]
    logprobs, values, *given_ = tracks
    mask = torch.ones(2, 3, dtype=torch.bool)
    loss = surrogate_loss(logprobs, given_[0], given_[1], mask).loss
    loss = loss + value_loss(values, given_[0], given_[1], mask) + kl_loss(logprobs, given_[2], mask)
    loss.backward()
    assert logprobs.grad.any()
    assert values.grad.any()
    assert all(track.grad is None for track in given_)
