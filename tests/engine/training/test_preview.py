"""What training would see of one pair: held against torch's own losses and gradients."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.training.losses.dpo import SideLogprobs, dpo_loss
from engine.training.losses.rjs import rjs_loss
from engine.training.methods.dpo import Dpo
from engine.training.preview import PLAIN, SeenSide, dpo_preview, dpo_pushes, rjs_preview, seen_side
from engine.types import RewardMap, Segmentation

ORACLE = json.loads((Path(__file__).parents[2] / "oracles.json").read_text())["dpo"]
METHODS = [Dpo(), PLAIN, Dpo(beta=0.5, rejected_clip=0.4), Dpo(sft_weight=0.0, masked_weight=1.0)]


def side(seed: int, tokens: int, kept: float, *, soft: bool = False, counted: bool = True) -> SeenSide:
    """A random response; its first token follows nothing, so its log-probability is missing."""
    random = np.random.default_rng(seed)
    weights = random.random(tokens) if soft else (random.random(tokens) < kept).astype(float)
    policy, reference = -4 * random.random((2, tokens))
    completion = np.ones(tokens, dtype=bool)
    completion[0], weights[0], policy[0] = False, 0.0, math.nan
    return SeenSide(policy, reference, weights, completion, counted)


def as_torch(one: SeenSide) -> SideLogprobs:
    assert one.reference_logprobs is not None
    policy, reference = (torch.tensor(track)[None] for track in (one.logprobs, one.reference_logprobs))
    hard = bool(np.isin(one.weights, (0, 1)).all())
    weights = torch.tensor(one.weights > 0 if hard else one.weights)[None]
    return SideLogprobs(policy.requires_grad_(), reference, weights, torch.tensor(one.completion)[None])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("kept_chosen", "kept_rejected", "soft"),
    [(0.6, 0.6, False), (1, 1, False), (0, 0.5, False), (0.5, 0, False), (0, 0, False), (1, 1, True)],
)
def test_dpo_is_what_training_computes(
    method: Dpo, kept_chosen: float, kept_rejected: float, soft: bool
) -> None:
    chosen, rejected = side(1, 9, kept_chosen, soft=soft), side(2, 7, kept_rejected, soft=soft)
    theirs = [as_torch(chosen), as_torch(rejected)]
    expected = dpo_loss(
        *theirs,
        beta=method.beta,
        rejected_clip=method.rejected_clip,
        sft_weight=method.sft_weight,
        dropped_weight=method.masked_weight,
    )
    expected.loss.backward()
    found = dpo_preview(chosen, rejected, method)
    assert found.loss == pytest.approx(expected.loss.item(), rel=1e-12)
    assert found.margin == pytest.approx(expected.margins.item(), abs=1e-12)
    assert found.preference == pytest.approx(expected.preference.item())
    assert found.sft == pytest.approx(expected.sft.item())
    assert found.masked_drift == pytest.approx(expected.dropped_drift.item())
    for gradient, one in zip(found.gradients.values(), theirs, strict=True):
        assert one.policy_logprobs.grad is not None
        assert gradient == pytest.approx(one.policy_logprobs.grad[0].numpy(), abs=1e-15)


def test_a_skipped_pair_has_no_loss_and_no_gradient() -> None:
    chosen, rejected = side(1, 5, 0, counted=False), side(2, 5, 0, counted=False)
    expected = dpo_loss(as_torch(chosen), as_torch(rejected), counted=torch.zeros(1))
    found = dpo_preview(chosen, rejected, Dpo())
    assert (found.loss, found.pull) == (expected.loss.item(), 0.0) == (0.0, 0.0)
    assert (found.chosen_gradient, found.rejected_gradient) == (None, None)
    assert not any(gradient.any() for gradient in found.gradients.values())


def test_the_gradient_of_plain_dpo_is_the_worked_one() -> None:
    def worked(letter: str) -> SeenSide:
        policy, reference = np.array(ORACLE[f"pol_{letter}"]), np.array(ORACLE[f"ref_{letter}"])
        return SeenSide(policy, reference, np.ones(len(policy)), np.ones(len(policy), dtype=bool))

    found = dpo_preview(worked("c"), worked("r"), PLAIN.model_copy(update={"beta": ORACLE["beta"]}))
    pull = ORACLE["beta"] / (1 + math.exp(found.margin))
    assert found.gradients["chosen"] == pytest.approx(-pull)
    assert found.gradients["rejected"] == pytest.approx(pull)
    assert found.loss == pytest.approx(math.log1p(math.exp(-found.margin)))


def test_a_masked_token_of_plain_dpo_has_exactly_no_gradient() -> None:
    chosen, rejected = side(3, 8, 0.5), side(4, 8, 0.5)
    found = dpo_preview(chosen, rejected, PLAIN)
    assert (found.gradients["chosen"][chosen.weights == 0] == 0).all()
    assert (found.gradients["rejected"][rejected.weights == 0] == 0).all()


def test_rejected_tokens_below_the_clip_are_counted_and_pulled_no_further() -> None:
    ones, whole = np.ones(3), np.ones(3, dtype=bool)
    chosen = SeenSide(-ones, -ones, ones, whole)
    rejected = SeenSide(np.array([-5.0, -3.0, -1.0]), -ones, ones, whole)
    found = dpo_preview(chosen, rejected, Dpo(masked_weight=0.0))
    assert found.clipped == 1  # the second lies exactly at the clip, where torch still pulls
    assert found.gradients["rejected"].tolist() == [0.0, found.pull, found.pull]


@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_rjs_is_what_training_computes(kept: float) -> None:
    chosen = side(5, 9, kept)
    theirs = as_torch(chosen)
    expected = rjs_loss(theirs.policy_logprobs, theirs.mask)
    expected.backward()
    found = rjs_preview(chosen)
    assert found.loss == pytest.approx(expected.item())
    assert theirs.policy_logprobs.grad is not None
    assert found.gradient == pytest.approx(theirs.policy_logprobs.grad[0].numpy())


def test_kept_tokens_share_one_gradient_on_each_side() -> None:
    chosen, rejected, method = side(3, 9, 0.6), side(4, 9, 0.6), Dpo()
    found = dpo_preview(chosen, rejected, method)
    assert rejected.reference_logprobs is not None
    above = rejected.logprobs - rejected.reference_logprobs >= -(method.rejected_clip or 0.0)
    assert set(found.gradients["chosen"][chosen.weights > 0]) == {found.chosen_gradient}
    assert set(found.gradients["rejected"][(rejected.weights > 0) & above]) == {found.rejected_gradient}
    pushes = dpo_pushes(chosen, rejected, method)
    assert pushes["chosen"].tolist() == [-one for one in found.gradients["chosen"]]
    beneath = replace(rejected, logprobs=rejected.logprobs - 100)
    assert dpo_preview(chosen, beneath, method).rejected_gradient is None


def test_other_losses_than_the_sigmoid_are_not_previewed() -> None:
    with pytest.raises(ValueError, match="sigmoid"):
        dpo_preview(side(1, 4, 1), side(2, 4, 1), Dpo(preference="ipo"))
    blind = SeenSide(np.zeros(2), None, np.ones(2), np.ones(2, dtype=bool))
    with pytest.raises(ValueError, match="reference"):
        dpo_preview(blind, blind, Dpo())


def test_a_stored_response_is_seen_as_training_takes_it() -> None:
    stored = RewardMap(
        key="a",
        side="chosen",
        token_ids=np.arange(3, dtype=np.int32),
        offsets=np.array([[0, 1], [1, 2], [2, 2]], dtype=np.int32),
        eos="</s>",
        prompt_tokens=0,
        truncated_prompt_tokens=0,
        rewards={},
    )
    mask = np.array([True, False, True])
    nothing = np.zeros(0, dtype=np.int32)
    cut = Segmentation(
        scaled=np.zeros(3, dtype=np.float32),
        signal=np.zeros(3, dtype=np.int8),
        candidates=nothing,
        pivots=nothing,
        segments=(),
        mask=mask,
        weights=mask.astype(np.float32),
        baseline=0.0,
        scale=1.0,
        missing=0,
    )
    assert seen_side(stored, cut) is None
    tracks = np.array([math.nan, -1, -2], dtype=np.float32)
    seen = seen_side(replace(stored, logprobs=tracks), cut)
    assert seen is not None
    assert (seen.kept, seen.tokens, seen.reference_logprobs) == (1.0, 2, None)
    assert seen.weights.tolist() == [0.0, 0.0, 1.0]
