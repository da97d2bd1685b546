"""Preference losses on the tokens that a mask keeps: DPO, and what is built on its margin.

`dpo_loss` is DPO (arXiv 2305.18290, eq. 7) with one mask per side, the same on policy and reference [paper]:

    log_ratios = policy_logprobs - reference_logprobs
    D          = sum_t mask * log_ratios                     per side
    margin     = beta * (D_chosen - D_rejected)
    loss       = sum(counted * -log sigmoid(margin)) / sum(counted)

Plain masked DPO collapses: once the wrong tokens of chosen responses are masked, nothing holds back those of
rejected ones. Three safeguards are therefore on unless they are switched off [ours]:

    D_rejected = sum_t mask * max(log_ratios, -rejected_clip)                            2 nats
    loss      += sft_weight * mean over kept chosen tokens of -policy_logprobs           0.5
    loss      += dropped_weight * mean over dropped tokens of log_ratios**2              0.05

A token is kept where its mask is True, else dropped; a request calls the last weight `masked_weight`. With
rejected_clip=None, sft_weight=0 and dropped_weight=0 this is the plain loss.

Departures and decisions:

1. A pair of weight 0 in `counted` leaves every sum and every denominator, the safeguards' too. [ours]
2. The means of the safeguards are over tokens of the whole batch, so that they do not change with the length
   of a pair; a dropped token is one of the completion, on either side. [ours]
3. IPO (arXiv 2310.12036, eq. 17) is on sums, as in its paper; with `length_normalised` it is on means, as in
   TRL. The others of the family: hinge is SLiC-HF's (arXiv 2305.10425) with margin 1; cDPO is the smoothing
   proposed by E. Mitchell (2023); robust is arXiv 2403.00409.
4. `length_normalised` divides by the tokens that the mask keeps, not by the length of the response. [ours]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor
from torch.nn.functional import logsigmoid

from engine.training.masked import Mask, dropped_by, masked, masked_mean, masked_sum, weighted_mean

REJECTED_CLIP = 2.0
"""Nats. A rejected token whose log-ratio lies lower pulls no further [ours]."""
SFT_WEIGHT = 0.5
"""Of the negative log-likelihood of kept chosen tokens [ours]."""
DROPPED_WEIGHT = 0.05
"""Of the squared log-ratio of dropped tokens [ours]."""

Preference = Literal["sigmoid", "ipo", "hinge", "cdpo", "robust"]
"""What is made of the margin."""


@dataclass(frozen=True, slots=True)
class SideLogprobs:
    """One side of a batch of pairs: the log-probabilities of its tokens, and which of them count."""

    policy_logprobs: Float[Tensor, "batch tokens"]
    """Nats; the gradient flows here. Padding may hold anything."""
    reference_logprobs: Float[Tensor, "batch tokens"]
    """Nats, of the frozen reference; no gradient flows here."""
    mask: Mask
    """True where a token counts, or soft weights."""
    completion_mask: Bool[Tensor, "batch tokens"] | None = None
    """True on the response, EOS included, False on padding; only the dropped tokens' anchor needs it."""

    def log_ratios(self) -> Float[Tensor, "batch tokens"]:
        """policy_logprobs - reference_logprobs."""
        return self.policy_logprobs - self.reference_logprobs.detach()

    def kept(self) -> Real[Tensor, " batch"]:
        """How many tokens count, or the sum of their weights."""
        return self.mask.sum(dim=1)


class PairLosses(NamedTuple):
    """What a method makes of some pairs, one number a pair."""

    losses: Float[Tensor, " batch"]
    margins: Float[Tensor, " batch"]
    """Above 0 where the chosen response is preferred, without gradient: for the curves."""


@dataclass(frozen=True, slots=True)
class PreferenceLoss:
    """A loss to go down, and what a log wants to know of it. All but `loss` are detached."""

    loss: Float[Tensor, ""]
    margins: Float[Tensor, " batch"]
    """chosen_rewards - rejected_rewards, of every pair, counted or not."""
    chosen_rewards: Float[Tensor, " batch"]
    """beta * D_chosen: the implicit reward of the kept tokens, as it enters the loss."""
    rejected_rewards: Float[Tensor, " batch"]
    """beta * D_rejected, clipped where the loss clips."""
    chosen_kept: Real[Tensor, " batch"]
    """How many chosen tokens the mask keeps. Where rejected keeps more, drift is rewarded."""
    rejected_kept: Real[Tensor, " batch"]
    preference: Float[Tensor, ""]
    """The part of the loss that is made of margins."""
    sft: Float[Tensor, ""]
    """Mean negative log-likelihood of kept chosen tokens, before its weight."""
    dropped_drift: Float[Tensor, ""]
    """Mean squared log-ratio of dropped tokens, before its weight; 0 where it was not asked for."""


class DpoTotals(NamedTuple):
    """What the means of the loss are divided by: of a whole batch, where the loss is that of a part of it."""

    counted: float
    """Sum of the pairs' weights."""
    kept_chosen: float
    """Kept chosen tokens of counted pairs."""
    dropped: float
    """Dropped tokens of both sides of counted pairs."""


def dpo_totals(
    chosen: SideLogprobs, rejected: SideLogprobs, counted: Float[Tensor, " batch"] | None = None
) -> DpoTotals:
    """The totals of these pairs; those of the parts of a batch add up to those of the batch."""
    dropped = _dropped(chosen, counted).sum() + _dropped(rejected, counted).sum()
    pairs = len(chosen.mask) if counted is None else float(counted.sum())
    return DpoTotals(float(pairs), float(_of_counted(chosen.mask, counted).sum()), float(dropped))


def dpo_loss(
    chosen: SideLogprobs,
    rejected: SideLogprobs,
    *,
    beta: float = 0.1,
    counted: Float[Tensor, " batch"] | None = None,
    preference: Preference = "sigmoid",
    label_smoothing: float = 0.0,
    length_normalised: bool = False,
    rejected_clip: float | None = REJECTED_CLIP,
    sft_weight: float = SFT_WEIGHT,
    dropped_weight: float = DROPPED_WEIGHT,
    totals: DpoTotals | None = None,
) -> PreferenceLoss:
    """The masked preference loss of the module's docstring.

    counted: weights of the pairs, at least 0; None counts every pair once. Where none counts, the loss is 0
    and so is its gradient. label_smoothing: the share of pairs whose labels are taken to be swapped, for
    `cdpo` and `robust`. length_normalised: D is a mean over kept tokens; a side that keeps none has D = 0.
    totals: those of the batch that these pairs are a part of; None where they are all of it.

    The gradient of a dropped token's logprob is exactly 0 where dropped_weight is 0. Raises ValueError where
    the options contradict each other, or where the dropped tokens' anchor lacks a completion mask.
    """
    chosen_sum = masked_sum(chosen.log_ratios(), chosen.mask)
    rejected_sum = masked_sum(_clipped(rejected.log_ratios(), rejected_clip), rejected.mask)
    if length_normalised:
        chosen_sum = chosen_sum / chosen.kept().clamp(min=1)
        rejected_sum = rejected_sum / rejected.kept().clamp(min=1)
    losses = preference_losses(chosen_sum - rejected_sum, beta, preference, label_smoothing)
    return _collected(
        chosen, rejected, chosen_sum, rejected_sum, losses, beta, counted, sft_weight, dropped_weight, totals
    )


def preference_losses(
    differences: Float[Tensor, " batch"],
    beta: float,
    preference: Preference = "sigmoid",
    label_smoothing: float = 0.0,
) -> Float[Tensor, " batch"]:
    """One loss a pair from differences = D_chosen - D_rejected, with x = beta * differences and e smoothing:

    sigmoid  -log sigmoid(x)
    cdpo     -(1 - e) log sigmoid(x) - e log sigmoid(-x)
    robust   (-(1 - e) log sigmoid(x) + e log sigmoid(-x)) / (1 - 2e)
    hinge    max(0, 1 - x)
    ipo      (differences - 1 / (2 beta))**2
    """
    smooths = preference in ("cdpo", "robust")
    if label_smoothing and not smooths:
        raise ValueError(f"`{preference}` has no label smoothing; choose `cdpo` or `robust`, or set it to 0.")
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"Label smoothing is {label_smoothing}; choose at least 0 and less than 0.5.")
    margins = beta * differences
    match preference:
        case "ipo":
            return (differences - 1 / (2 * beta)) ** 2
        case "hinge":
            return torch.relu(1 - margins)
        case "cdpo":
            return -(1 - label_smoothing) * logsigmoid(margins) - label_smoothing * logsigmoid(-margins)
        case "robust":
            right, swapped = (
                (1 - label_smoothing) * logsigmoid(margins),
                label_smoothing * logsigmoid(-margins),
            )
            return (swapped - right) / (1 - 2 * label_smoothing)
        case "sigmoid":
            return -logsigmoid(margins)


def _clipped(log_ratios: Tensor, clip: float | None) -> Tensor:
    """max(log_ratios, -clip): below, the gradient is 0."""
    if clip is None:
        return log_ratios
    if clip < 0:
        raise ValueError(
            f"The clip of rejected log-ratios is {clip} nats; choose at least 0, or None for none."
        )
    return log_ratios.clamp(min=-clip)


def _collected(
    chosen: SideLogprobs,
    rejected: SideLogprobs,
    chosen_sum: Tensor,
    rejected_sum: Tensor,
    losses: Tensor,
    beta: float,
    counted: Tensor | None,
    sft_weight: float,
    dropped_weight: float,
    totals: DpoTotals | None,
) -> PreferenceLoss:
    if counted is not None:
        counted = counted.to(losses.dtype)
    loss = preference = weighted_mean(losses, counted, totals and totals.counted)
    kept = _of_counted(chosen.mask, counted)
    sft = masked_mean(-chosen.policy_logprobs, kept, totals and totals.kept_chosen)
    drift = torch.zeros_like(sft)
    if sft_weight:
        loss = loss + sft_weight * sft
    if dropped_weight:
        drift = _dropped_drift(chosen, rejected, counted, totals and totals.dropped)
        loss = loss + dropped_weight * drift
    chosen_rewards, rejected_rewards = beta * chosen_sum.detach(), beta * rejected_sum.detach()
    return PreferenceLoss(
        loss=loss,
        margins=chosen_rewards - rejected_rewards,
        chosen_rewards=chosen_rewards,
        rejected_rewards=rejected_rewards,
        chosen_kept=chosen.kept(),
        rejected_kept=rejected.kept(),
        preference=preference.detach(),
        sft=sft.detach(),
        dropped_drift=drift.detach(),
    )


def _dropped_drift(
    chosen: SideLogprobs, rejected: SideLogprobs, counted: Tensor | None, total: float | None
) -> Tensor:
    """Mean squared log-ratio of the tokens of both completions that their masks leave out."""
    dropped = [_dropped(side, counted) for side in (chosen, rejected)]
    squares = [
        masked(side.log_ratios(), weights > 0) ** 2
        for side, weights in zip((chosen, rejected), dropped, strict=True)
    ]
    return masked_mean(_flat(squares), _flat(dropped), total)


def _flat(sides: Sequence[Tensor]) -> Tensor:
    return torch.cat([side.flatten() for side in sides])


def _dropped(side: SideLogprobs, counted: Tensor | None) -> Tensor:
    if side.completion_mask is None:
        raise ValueError(
            "The anchor of dropped tokens needs to know which tokens are padding: give both sides a "
            "`completion_mask`, or set `masked_weight` to 0."
        )
    return _of_counted(dropped_by(side.mask, side.completion_mask), counted)


def _of_counted(mask: Tensor, counted: Tensor | None) -> Tensor:
    """The mask without the rows that do not count."""
    return mask if counted is None else mask * (counted > 0)[:, None]
