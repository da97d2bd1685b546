import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.training.credit import at_segment_ends, attention_credit, centred, spread_over_segments

WORKED = json.loads((Path(__file__).parents[2] / "oracles.json").read_text())["abc"]
NAN = math.nan


def test_attention_credit_is_the_worked_one():
    attention = torch.tensor([[*WORKED["alpha"], NAN]], dtype=torch.float64)
    mask = torch.tensor([[True] * 4 + [False]])
    rewards = torch.tensor([WORKED["R"]], dtype=torch.float64)
    credit = attention_credit(attention, rewards, mask, beta=WORKED["beta"])
    assert credit[0].tolist() == pytest.approx([*WORKED["r"], 0.0], abs=1e-12)
    assert credit.sum().item() == pytest.approx(WORKED["sum"], abs=1e-12)
    doubled = attention_credit(attention * 2, rewards, mask, beta=WORKED["beta"])
    torch.testing.assert_close(doubled, credit)


@given(
    seed=st.integers(0, 10**6),
    reward=st.floats(-5, 5).filter(lambda r: r == 0 or abs(r) > 1e-6),
    beta=st.floats(0, 1),
)
@settings(max_examples=40, deadline=None)
def test_attention_credit_sums_to_the_reward_and_has_its_sign(seed, reward, beta):
    attention = torch.rand(2, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mask = torch.arange(6) < torch.tensor([[6], [3]])
    credit = attention_credit(attention, torch.full((2,), reward, dtype=torch.float64), mask, beta=beta)
    assert credit.sum(1).tolist() == pytest.approx([reward] * 2, abs=1e-9)
    assert (credit * math.copysign(1, reward) >= 0).all()
    assert not credit[~mask].any()


def test_without_attention_the_last_token_takes_all():
    mask = torch.tensor([[True, True, False], [False, False, False]])
    credit = attention_credit(torch.zeros(2, 3), torch.tensor([-2.0, 1.0]), mask)
    assert credit.tolist() == [[0, -2, 0], [0, 0, 0]]


def test_rewards_of_segments_become_rewards_of_tokens():
    rewards, lengths = torch.tensor([3.0, -1.0]), torch.tensor([2, 1])
    assert spread_over_segments(rewards, lengths).tolist() == [1.5, 1.5, -1.0]
    assert at_segment_ends(rewards, lengths).tolist() == [0.0, 3.0, -1.0]
    assert at_segment_ends(rewards[:0], lengths[:0]).tolist() == []


def test_centred_rewards_sum_to_zero_in_every_response():
    rewards = torch.tensor([[1.0, 2.0, 6.0], [5.0, NAN, NAN]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert centred(rewards, mask).tolist() == [[-2.0, -1.0, 3.0], [0.0, 0.0, 0.0]]
