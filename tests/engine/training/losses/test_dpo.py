"""Masked DPO against worked numbers, against a plain DPO written out here, and against its gradients."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import logsigmoid

from engine.masks import segment_response
from engine.rules import SegmentationRule
from engine.segmentation.statistics import RewardStatistics
from engine.training.losses.dpo import PreferenceLoss, SideLogprobs, dpo_loss, preference_losses

ORACLES = json.loads((Path(__file__).parents[3] / "oracles.json").read_text())
WORKED = ORACLES["dpo"]
PLAIN: dict[str, Any] = {"rejected_clip": None, "sft_weight": 0.0, "dropped_weight": 0.0}
NAN = math.nan


def row(values: list[float]) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def worked(
    chosen_mask: list[int] | None = None, rejected_mask: list[int] | None = None
) -> list[SideLogprobs]:
    """The pair of the oracle, chosen and rejected; everything counts unless a mask says less."""
    sides = []
    for letter, mask in (("c", chosen_mask), ("r", rejected_mask)):
        policy = row(WORKED[f"pol_{letter}"]).requires_grad_()
        complete = torch.ones(policy.shape, dtype=torch.bool)
        counts = complete if mask is None else torch.tensor([mask], dtype=torch.bool)
        sides.append(SideLogprobs(policy, row(WORKED[f"ref_{letter}"]), counts, complete))
    return sides


def batch(seed: int, rows: int = 3, tokens: int = 6) -> list[SideLogprobs]:
    """Random sides with random masks; every row is complete."""
    generator = torch.Generator().manual_seed(seed)
    sides = []
    for _ in range(2):
        policy, reference = -2 * torch.rand(2, rows, tokens, generator=generator, dtype=torch.float64)
        mask = torch.rand(rows, tokens, generator=generator) < 0.6
        sides.append(SideLogprobs(policy.requires_grad_(), reference, mask, torch.ones_like(mask)))
    return sides


def with_padding(side: SideLogprobs, value: float, count: int = 3) -> SideLogprobs:
    def wide(track: Tensor, fill: float) -> Tensor:
        return torch.nn.functional.pad(track, (0, count), value=fill)

    assert side.completion_mask is not None
    return SideLogprobs(
        wide(side.policy_logprobs.detach(), value).requires_grad_(),
        wide(side.reference_logprobs, value),
        wide(side.mask, False),
        wide(side.completion_mask, False),
    )


def whole(side: SideLogprobs) -> SideLogprobs:
    return SideLogprobs(
        side.policy_logprobs, side.reference_logprobs, torch.ones_like(side.mask), side.completion_mask
    )


def plain_dpo(chosen: SideLogprobs, rejected: SideLogprobs, beta: float) -> Tensor:
    """Unmasked DPO as its authors write it: of sums over whole responses."""
    chosen_log_ratio = (chosen.policy_logprobs - chosen.reference_logprobs).sum(1)
    rejected_log_ratio = (rejected.policy_logprobs - rejected.reference_logprobs).sum(1)
    return -logsigmoid(beta * (chosen_log_ratio - rejected_log_ratio)).mean()


# ------------------------------------------------------------------------------------------ worked numbers


@pytest.mark.parametrize(
    ("masks", "loss"),
    [
        ((None, None), WORKED["full_loss"]),
        ((WORKED["mask_c"], WORKED["mask_r"]), WORKED["masked_loss"]),
        (([0] * 4, [0] * 3), WORKED["all_masked_loss"]),
    ],
)
def test_the_loss_is_the_worked_one(masks, loss):
    assert dpo_loss(*worked(*masks), beta=WORKED["beta"], **PLAIN).loss.item() == pytest.approx(
        loss, abs=1e-12
    )


def test_implicit_rewards_are_the_worked_ones():
    chosen, rejected = worked()
    for side, expected in ((chosen, WORKED["implicit_c"]), (rejected, WORKED["implicit_r"])):
        assert (WORKED["beta"] * side.log_ratios())[0].tolist() == pytest.approx(expected)
    result = dpo_loss(chosen, rejected, **PLAIN)
    assert result.chosen_rewards.item() == pytest.approx(sum(WORKED["implicit_c"]))
    assert result.rejected_rewards.item() == pytest.approx(sum(WORKED["implicit_r"]))
    assert result.margins.item() == pytest.approx(sum(WORKED["implicit_c"]) - sum(WORKED["implicit_r"]))


def masks_of(segmenter: dict[str, Any]) -> tuple[list[int], list[int]]:
    """The masks that the worked implicit rewards make under a segmenter, chosen and rejected."""
    rule = SegmentationRule.model_validate({"segmenter": segmenter, "eos": "inherit"})
    masks = []
    for letter, sign in (("c", 1), ("r", -1)):
        rewards = np.array(WORKED[f"implicit_{letter}"])
        masks.append(segment_response(rewards, sign, rule, RewardStatistics()).mask.astype(int).tolist())
    return masks[0], masks[1]


def test_tokens_that_agree_make_the_worked_masks_and_loss():
    chosen_mask, rejected_mask = masks_of({"name": "token"})
    assert {"c": chosen_mask, "r": rejected_mask} == WORKED["agreement_mask_token_delta0"]
    loss = dpo_loss(*worked(chosen_mask, rejected_mask), **PLAIN).loss.item()
    assert loss == pytest.approx(WORKED["masked_loss"], abs=1e-12)


def test_a_whole_response_as_one_segment_gives_the_unmasked_loss():
    sides = worked(*masks_of({"name": "whole"}))
    assert torch.equal(dpo_loss(*sides, **PLAIN).loss, plain_dpo(*sides, 0.1))


# ------------------------------------------------------------------------------------------------ identities


@given(seed=st.integers(0, 10**6), dtype=st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=30, deadline=None)
def test_a_mask_of_ones_changes_nothing_to_the_last_bit(seed, dtype):
    sides = [
        SideLogprobs(side.policy_logprobs.to(dtype), side.reference_logprobs.to(dtype), side.mask)
        for side in map(whole, batch(seed))
    ]
    assert torch.equal(dpo_loss(*sides, beta=0.3, **PLAIN).loss, plain_dpo(*sides, 0.3))


def test_everything_masked_is_the_log_of_two_with_a_zero_gradient():
    chosen, rejected = worked([0] * 4, [0] * 3)
    loss = dpo_loss(chosen, rejected, **PLAIN).loss
    loss.backward()
    assert loss.item() == math.log(2)
    assert not chosen.policy_logprobs.grad.any()
    assert not rejected.policy_logprobs.grad.any()


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_kept_tokens_share_the_gradient_and_masked_ones_have_none(seed):
    beta = 0.3
    chosen, rejected = batch(seed)
    result = dpo_loss(chosen, rejected, beta=beta, **PLAIN)
    result.loss.backward()
    pull = beta * torch.sigmoid(-result.margins)[:, None] / len(result.margins)
    assert not chosen.policy_logprobs.grad[~chosen.mask].any()
    assert not rejected.policy_logprobs.grad[~rejected.mask].any()
    torch.testing.assert_close(chosen.policy_logprobs.grad, -pull * chosen.mask)
    torch.testing.assert_close(rejected.policy_logprobs.grad, pull * rejected.mask)


@given(seed=st.integers(0, 10**6), value=st.sampled_from([0.0, -7.5, NAN, -math.inf]))
@settings(max_examples=30, deadline=None)
def test_padding_changes_no_loss_and_no_gradient(seed, value):
    sides = batch(seed)
    padded = [with_padding(side, value) for side in sides]
    results = [dpo_loss(*both) for both in (sides, padded)]
    for result in results:
        result.loss.backward()
    torch.testing.assert_close(results[0].loss, results[1].loss, rtol=1e-12, atol=1e-12)
    for side, wide in zip(sides, padded, strict=True):
        torch.testing.assert_close(side.policy_logprobs.grad, wide.policy_logprobs.grad[:, :-3])
        assert not wide.policy_logprobs.grad[:, -3:].any()


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_kept_and_masked_tokens_are_all_tokens(seed):
    chosen, rejected = batch(seed)
    result = dpo_loss(chosen, rejected)
    for side, kept in ((chosen, result.chosen_kept), (rejected, result.rejected_kept)):
        assert torch.equal(kept + (side.completion_mask & ~side.mask).sum(1), side.completion_mask.sum(1))


def test_no_gradient_flows_to_the_reference():
    sides = batch(2)
    for side in sides:
        side.reference_logprobs.requires_grad_()
    dpo_loss(*sides).loss.backward()
    assert all(side.policy_logprobs.grad.any() for side in sides)
    assert all(track.grad is None for track in [side.reference_logprobs for side in sides])


# --------------------------------------------------------------------------------------- pairs that count


def counted(*weights: float) -> Tensor:
    return torch.tensor(weights, dtype=torch.float64)


def first_rows(side: SideLogprobs, rows: int) -> SideLogprobs:
    return SideLogprobs(
        side.policy_logprobs[:rows],
        side.reference_logprobs[:rows],
        side.mask[:rows],
        side.completion_mask[:rows],
    )


def test_a_pair_of_weight_zero_leaves_every_denominator():
    chosen, rejected = batch(1)
    result = dpo_loss(chosen, rejected, counted=counted(1, 1, 0))
    fewer = dpo_loss(first_rows(chosen, 2), first_rows(rejected, 2))
    torch.testing.assert_close(result.loss, fewer.loss)
    result.loss.backward()
    assert not chosen.policy_logprobs.grad[2].any()


def test_where_no_pair_counts_loss_and_gradient_are_zero():
    chosen, rejected = batch(1)
    result = dpo_loss(chosen, rejected, counted=counted(0, 0, 0))
    result.loss.backward()
    assert result.loss.item() == 0
    assert not chosen.policy_logprobs.grad.any()
    assert not rejected.policy_logprobs.grad.any()


def test_a_pair_of_weight_two_counts_like_two_pairs():
    chosen, rejected = (first_rows(side, 2) for side in batch(1))
    twice = [
        SideLogprobs(
            side.policy_logprobs[[0, 0, 1]], side.reference_logprobs[[0, 0, 1]], side.mask[[0, 0, 1]]
        )
        for side in (chosen, rejected)
    ]
    torch.testing.assert_close(
        dpo_loss(chosen, rejected, counted=counted(2, 1), **PLAIN).loss, dpo_loss(*twice, **PLAIN).loss
    )


# ------------------------------------------------------------------------------------------- safeguards


def test_a_rejected_token_below_the_clip_pulls_no_further():
    policy = row([-9.0, -1.0]).requires_grad_()
    complete = torch.ones(1, 2, dtype=torch.bool)
    rejected = SideLogprobs(policy, row([-1.0, -1.5]), complete)
    result = dpo_loss(worked()[0], rejected, rejected_clip=2.0, sft_weight=0.0, dropped_weight=0.0)
    assert result.rejected_rewards.item() == pytest.approx(0.1 * (-2.0 + 0.5))
    result.loss.backward()
    assert policy.grad[0, 0] == 0
    assert policy.grad[0, 1] > 0


def test_a_chosen_token_is_never_clipped():
    chosen = SideLogprobs(row([-9.0]), row([-1.0]), torch.ones(1, 1, dtype=torch.bool))
    assert dpo_loss(chosen, worked()[1], dropped_weight=0.0).chosen_rewards.item() == pytest.approx(-0.8)


def parts(result: PreferenceLoss) -> float:
    return (result.preference + 0.5 * result.sft + 0.05 * result.dropped_drift).item()


def test_the_anchors_are_means_over_their_tokens():
    result = dpo_loss(*worked(WORKED["mask_c"], WORKED["mask_r"]))
    assert result.preference.item() == pytest.approx(WORKED["masked_loss"])
    assert result.sft.item() == pytest.approx((1.2 + 0.4 + 0.1) / 3)
    assert result.dropped_drift.item() == pytest.approx((1.0**2 + 0.3**2) / 2)
    assert result.loss.item() == pytest.approx(parts(result))


def test_the_anchor_of_masked_tokens_says_what_it_needs():
    sides = [SideLogprobs(s.policy_logprobs, s.reference_logprobs, s.mask) for s in worked()]
    with pytest.raises(ValueError, match=r"give both sides a `completion_mask`, or set `masked_weight` to 0"):
        dpo_loss(*sides)


def test_a_negative_clip_is_refused():
    with pytest.raises(ValueError, match="choose at least 0"):
        dpo_loss(*worked(), rejected_clip=-1.0)


# --------------------------------------------------------------------------------------------- variants


def test_the_variants_on_a_margin_worked_by_hand():
    difference = torch.tensor([2.0], dtype=torch.float64)  # x = 1 with beta .5
    right, swapped = math.log(1 + math.exp(-1)), math.log(1 + math.e)

    def of(name: Any, smoothing: float = 0.0) -> float:
        return preference_losses(difference, 0.5, name, smoothing).item()

    assert of("sigmoid") == pytest.approx(right)
    assert of("cdpo", 0.1) == pytest.approx(0.9 * right + 0.1 * swapped)
    assert of("robust", 0.1) == pytest.approx((0.9 * right - 0.1 * swapped) / 0.8)
    assert of("hinge") == 0
    assert preference_losses(-difference, 0.5, "hinge").item() == 2
    assert of("ipo") == (2 - 1) ** 2
    assert of("cdpo") == of("robust") == of("sigmoid")


@pytest.mark.parametrize("preference", ["sigmoid", "ipo", "hinge", "cdpo", "robust"])
def test_every_variant_leaves_masked_tokens_without_gradient(preference):
    chosen, rejected = batch(5)
    dpo_loss(chosen, rejected, preference=preference, length_normalised=True, **PLAIN).loss.backward()
    assert not chosen.policy_logprobs.grad[~chosen.mask].any()
    assert not rejected.policy_logprobs.grad[~rejected.mask].any()


def test_length_normalised_divides_by_kept_tokens():
    result = dpo_loss(*worked(WORKED["mask_c"], WORKED["mask_r"]), length_normalised=True, **PLAIN)
    assert result.chosen_rewards.item() == pytest.approx((0.03 + 0.01 + 0.01) / 3)
    assert result.rejected_rewards.item() == pytest.approx((-0.04 - 0.05) / 2)
    nothing = dpo_loss(*worked([0] * 4, [0] * 3), length_normalised=True, **PLAIN)
    assert nothing.loss.item() == math.log(2)


def test_smoothing_where_there_is_none_is_refused():
    with pytest.raises(ValueError, match="choose `cdpo` or `robust`"):
        preference_losses(torch.zeros(1), 0.1, "hinge", 0.1)
    with pytest.raises(ValueError, match=r"less than 0\.5"):
        preference_losses(torch.zeros(1), 0.1, "robust", 0.5)
