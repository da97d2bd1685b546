"""PPO's losses on tokens: the clipped surrogate on the mask, value loss and KL on the whole completion.

PPO is arXiv 1707.06347; that only the surrogate is masked is METHOD section 4 [ours]: a critic has to know
the value of every state, and a KL that spares masked tokens would let them drift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from engine.training.masked import masked, masked_mean

KLEstimator = Literal["k1", "k2", "k3"]
"""The estimators of J. Schulman's note of 2020, of samples drawn from the policy."""


@dataclass(frozen=True, slots=True)
class SurrogateLoss:
    """A loss to go down, and what a log wants to know of it. All but `loss` are detached."""

    loss: Float[Tensor, ""]
    clipped: Float[Tensor, ""]
    """The share of kept tokens at which the clip is what counts, from 0 to 1."""
    kl_to_old: Float[Tensor, ""]
    """Mean k3 estimate of the KL from the policy that sampled to the one that trains, nats."""


def surrogate_loss(
    logprobs: Float[Tensor, "batch tokens"],
    old_logprobs: Float[Tensor, "batch tokens"],
    advantages: Float[Tensor, "batch tokens"],
    mask: Bool[Tensor, "batch tokens"],
    *,
    clip: float = 0.2,
    total: float | None = None,
) -> SurrogateLoss:
    """The clipped surrogate (arXiv 1707.06347, eq. 7), averaged over the tokens that count:

        ratio = exp(logprobs - old_logprobs)
        loss  = -sum(mask * min(ratio * A, clip(ratio, 1 - clip, 1 + clip) * A)) / sum(mask)

    No gradient flows to old_logprobs and advantages. With ratio 1 the loss is -masked mean of A. Where
    nothing counts, the loss and its gradient are 0.

    total: tokens that count in the batch that these rows are a part of; None where they are all of it.
    """
    log_ratios = masked(logprobs - old_logprobs.detach(), mask)
    ratios, advantages = log_ratios.exp(), masked(advantages.detach(), mask)
    free, bounded = ratios * advantages, ratios.clamp(1 - clip, 1 + clip) * advantages
    return SurrogateLoss(
        loss=-masked_mean(torch.minimum(free, bounded), mask, total),
        clipped=masked_mean((bounded < free).to(ratios.dtype), mask, total).detach(),
        kl_to_old=masked_mean(ratios - 1 - log_ratios, mask, total).detach(),
    )


def value_loss(
    values: Float[Tensor, "batch tokens"],
    old_values: Float[Tensor, "batch tokens"],
    returns: Float[Tensor, "batch tokens"],
    completion_mask: Bool[Tensor, "batch tokens"],
    *,
    clip: float | None = 0.2,
    total: float | None = None,
) -> Float[Tensor, ""]:
    """Half the mean squared error of the critic over the completion, clipped as PPO's first code did:

        near = old_values + clip(values - old_values, -clip, clip)
        loss = 0.5 * masked mean of max((values - returns)**2, (near - returns)**2)

    clip: in the units of the values; None leaves the plain error. total: tokens of the completions of the
    batch that these rows are a part of; None where they are all of it.
    """
    values = masked(values, completion_mask)
    old_values = masked(old_values.detach(), completion_mask)
    returns = masked(returns.detach(), completion_mask)
    errors = (values - returns) ** 2
    if clip is not None:
        near = old_values + (values - old_values).clamp(-clip, clip)
        errors = torch.maximum(errors, (near - returns) ** 2)
    return 0.5 * masked_mean(errors, completion_mask, total)


def token_kl(
    logprobs: Float[Tensor, "batch tokens"],
    reference_logprobs: Float[Tensor, "batch tokens"],
    completion_mask: Bool[Tensor, "batch tokens"],
    *,
    estimator: KLEstimator = "k1",
) -> Float[Tensor, "batch tokens"]:
    """KL(policy | reference) estimated at each token of the completion, nats; 0 on padding.

    With d = logprobs - reference_logprobs: k1 = d, k2 = d**2 / 2, k3 = exp(-d) - 1 + d. k1 and k3 have the
    right mean; k2 and k3 are never negative; k1's gradient, in a loss, has mean 0: use it in rewards only.
    """
    difference = masked(logprobs - reference_logprobs.detach(), completion_mask)
    match estimator:
        case "k1":
            return difference
        case "k2":
            return difference**2 / 2
        case "k3":
            return torch.exp(-difference) - 1 + difference


def kl_loss(
    logprobs: Float[Tensor, "batch tokens"],
    reference_logprobs: Float[Tensor, "batch tokens"],
    completion_mask: Bool[Tensor, "batch tokens"],
    *,
    estimator: KLEstimator = "k3",
    total: float | None = None,
) -> Float[Tensor, ""]:
    """Mean of `token_kl` over the completion, masked tokens included; to be weighted and added to a loss.

    total: tokens of the completions of the batch that these rows are a part of.
    """
    kl = token_kl(logprobs, reference_logprobs, completion_mask, estimator=estimator)
    return masked_mean(kl, completion_mask, total)


def penalised_rewards(
    rewards: Float[Tensor, "batch tokens"],
    logprobs: Float[Tensor, "batch tokens"],
    reference_logprobs: Float[Tensor, "batch tokens"],
    completion_mask: Bool[Tensor, "batch tokens"],
    *,
    kl_coef: float,
) -> Float[Tensor, "batch tokens"]:
    """rewards - kl_coef * k1 at each token of the completion, 0 on padding, without gradient: GAE's input."""
    kl = token_kl(logprobs.detach(), reference_logprobs, completion_mask)
    return masked(rewards.detach(), completion_mask) - kl_coef * kl
