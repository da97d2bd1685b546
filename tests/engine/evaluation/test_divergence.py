import numpy as np
import pytest
import torch

from engine.evaluation.divergence import divergence, token_divergences
from engine.ragged import Row


def rows_of(loaded):
    generator = np.random.default_rng(0)
    ids = [
        generator.integers(2, loaded.vocab_size, length).astype(np.int32) for length in (4, 7, 9, 1, 3, 12)
    ]
    return [Row(ids[0], (ids[1],)), Row(ids[2], (ids[3],)), Row(ids[4], (ids[5],))]


def test_the_divergence_of_every_token_is_exact(policies):
    policy, reference = policies
    rows = rows_of(policy)

    for token_budget in (16, 4096):
        found = token_divergences(policy, reference, rows, token_budget)

        for row, kl in zip(rows, found, strict=True):
            whole = torch.tensor(np.concatenate([row.prompt, row.branches[0]])[None]).long()
            ours, theirs = (one.model(whole).logits[0].log_softmax(-1) for one in policies)
            expected = (ours.exp() * (ours - theirs)).sum(-1)[len(row.prompt) - 1 : -1]
            np.testing.assert_allclose(kl, expected.detach().numpy(), rtol=1e-3, atol=1e-5)


def test_models_that_are_read_alone_give_the_same(policies, monkeypatch):
    policy, reference = policies
    expected = token_divergences(policy, reference, rows_of(policy), 4096)

    monkeypatch.setattr(reference, "plan", "alone")

    for one, other in zip(token_divergences(policy, reference, rows_of(policy), 4096), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_a_policy_does_not_diverge_from_itself(policies):
    found = token_divergences(policies[0], policies[0], rows_of(policies[0]), 4096)

    assert [len(kl) for kl in found] == [7, 1, 12]
    assert not any(kl.any() for kl in found)


def test_the_mean_is_over_tokens():
    assert divergence([3.0, 1.0], [1, 3], 0.95).value == pytest.approx(1.0)
    assert divergence([], [], 0.95).value is None
