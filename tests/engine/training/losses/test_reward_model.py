import math

import pytest
import torch

from engine.training.losses.reward_model import bradley_terry_loss, last_token_rewards, segment_end_rewards

NAN = math.nan


def test_the_loss_of_a_margin_by_hand():
    chosen = torch.tensor([2.0, 0.0, 1.0], requires_grad=True)
    result = bradley_terry_loss(chosen, torch.tensor([1.0, 0.5, 1.0]))
    expected = [math.log(1 + math.exp(-m)) for m in (1.0, -0.5, 0.0)]
    assert result.loss.item() == pytest.approx(sum(expected) / 3)
    assert result.margins.tolist() == [1.0, -0.5, 0.0]
    assert result.accuracy.item() == pytest.approx(1 / 3)
    result.loss.backward()
    pulls = [-1 / (1 + math.exp(m)) / 3 for m in (1.0, -0.5, 0.0)]
    assert chosen.grad.tolist() == pytest.approx(pulls)


def test_a_pair_of_weight_zero_leaves_the_denominator_and_none_is_zero():
    chosen = torch.tensor([2.0, 0.0], requires_grad=True)
    rejected = torch.tensor([1.0, 5.0])
    one = bradley_terry_loss(chosen, rejected, counted=torch.tensor([1.0, 0.0]))
    assert one.loss.item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert one.accuracy.item() == 1
    none = bradley_terry_loss(chosen, rejected, counted=torch.zeros(2))
    none.loss.backward()
    assert none.loss.item() == 0
    assert chosen.grad.tolist() == [0, 0]


def test_rewards_are_read_at_the_last_token_or_at_segment_ends():
    scores = torch.tensor([[1.0, 2.0, 6.0], [5.0, NAN, NAN], [NAN, NAN, NAN]])
    completion = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    assert last_token_rewards(scores, completion).tolist() == [6, 5, 0]
    ends = torch.tensor([[True, False, True], [True, False, False], [False, False, False]])
    assert segment_end_rewards(scores, ends).tolist() == [3.5, 5, 0]
