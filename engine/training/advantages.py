"""How much better each token, or each response, was than expected: GAE, group-relative advantages, whitening.

Pure functions; no gradient flows through any of them. Masks are True on the completion and False on the
padding at its end, which may hold anything and gets 0.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from engine.training.masked import masked, masked_mean, masked_sum

GROUP_EPSILON = 1e-4
"""Added to the standard deviation of a group, as TRL does."""


class Advantages(NamedTuple):
    """What GAE makes of rewards and values; 0 on padding."""

    advantages: Float[Tensor, "batch tokens"]
    returns: Float[Tensor, "batch tokens"]
    """advantages + values: what the critic should have said."""


@torch.no_grad()
def gae(
    rewards: Float[Tensor, "batch tokens"],
    values: Float[Tensor, "batch tokens"],
    completion_mask: Bool[Tensor, "batch tokens"],
    *,
    gamma: float = 1.0,
    lambda_: float = 0.95,
) -> Advantages:
    """Generalised advantage estimation (arXiv 1506.02438, eq. 16), computed from the end:

        delta_t = rewards_t + gamma * values_(t+1) - values_t
        A_t     = delta_t + gamma * lambda_ * A_(t+1)

    values_t is what the critic expects before token t is chosen; after the last token both value and
    advantage are 0. With gamma = lambda_ = 1, A_t is the sum of the rewards from t on, less values_t.
    """
    rewards, values = masked(rewards, completion_mask), masked(values, completion_mask)
    advantages = torch.zeros_like(rewards)
    next_value = next_advantage = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        # Padding is 0 in rewards and values and lies behind the completion: it stays 0 and passes on 0.
        next_advantage = advantages[:, t] = delta + gamma * lambda_ * next_advantage
        next_value = values[:, t]
    return Advantages(advantages, advantages + values)


@torch.no_grad()
def whiten(
    values: Float[Tensor, "batch tokens"],
    completion_mask: Bool[Tensor, "batch tokens"],
    *,
    centre: bool = True,
    epsilon: float = 1e-8,
) -> Float[Tensor, "batch tokens"]:
    """(values - mean) / sqrt(variance + epsilon) over all tokens of the batch that the mask keeps.

    The variance divides by their number. Without `centre` the mean is added again. Values that are all equal
    become 0 (or stay, without `centre`), never NaN.
    """
    mean = masked_mean(values, completion_mask)
    centred = masked(values - mean, completion_mask)
    if _all_equal(values, completion_mask):
        centred = torch.zeros_like(centred)
    whitened = centred * torch.rsqrt(masked_mean(centred**2, completion_mask) + epsilon)
    return whitened if centre else masked(whitened + mean, completion_mask)


@torch.no_grad()
def grpo_advantages(
    rewards: Float[Tensor, "groups responses"], *, scale: Literal["std", "none"] = "std"
) -> Float[Tensor, "groups responses"]:
    """A response's reward relative to the responses to the same prompt (arXiv 2402.03300, section 4.1.2):

        A = (rewards - mean) / (std + 1e-4)       scale "std"; std divides by the number of responses
        A = rewards - mean                        scale "none", as arXiv 2503.20783 has it

    Equal rewards say nothing: a group of them, or of one response, has advantages of exactly 0.
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    equal = (rewards == rewards[:, :1]).all(dim=1, keepdim=True)
    centred = torch.where(equal, torch.zeros_like(centred), centred)
    if scale == "none":
        return centred
    return centred / (centred.pow(2).mean(dim=1, keepdim=True).sqrt() + GROUP_EPSILON)


@torch.no_grad()
def rloo_advantages(rewards: Float[Tensor, "groups responses"]) -> Float[Tensor, "groups responses"]:
    """A_i = rewards_i - mean of the other rewards of the group (arXiv 2402.14740); equal rewards give 0.

    Raises ValueError where groups have a single response, which has no others to be compared with.
    """
    responses = rewards.shape[1]
    if responses < 2:
        raise ValueError("RLOO compares a response with others: sample at least two to every prompt.")
    return grpo_advantages(rewards, scale="none") * responses / (responses - 1)


@torch.no_grad()
def masked_advantages(
    advantages: Float[Tensor, " batch"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch tokens"]:
    """The mask form: A_t = A * mask_t, for trainers that take advantages and no mask [ours].

    In the surrogate this differs from masking the loss by its denominator. Handed over with the completion
    mask c, masked tokens are 0 in the sum but count in it: sum(c * ...) / sum(c). Handed to `surrogate_loss`
    with m, they do not: sum(m * ...) / sum(m). Per batch the two differ by the factor sum(m) / sum(c), the
    kept fraction: the mask form takes smaller steps, and the smaller the more is masked. A penalty such as
    KL inside the same mean is not masked by this form.
    """
    return advantages[:, None] * mask


@torch.no_grad()
def shaped_advantages(
    advantages: Float[Tensor, " batch"],
    token_rewards: Float[Tensor, "batch tokens"],
    completion_mask: Bool[Tensor, "batch tokens"],
    *,
    alpha: float,
) -> Float[Tensor, "batch tokens"]:
    """The shaping form: A_t = A + alpha * (u_t - mean_t u), with u the token rewards [ours]; 0 on padding.

    The mean is over the response, so that shaping moves credit within a response and none between responses:
    the mean of A_t over the completion is A. No token is left out, and the denominator is sum(c).
    """
    lengths = completion_mask.sum(dim=1, keepdim=True).clamp(min=1)
    means = masked_sum(token_rewards, completion_mask)[:, None] / lengths
    return masked(advantages[:, None] + alpha * (token_rewards - means), completion_mask)


@torch.no_grad()
def centred(
    token_rewards: Float[Tensor, "batch tokens"], completion_mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch tokens"]:
    """token_rewards - their mean over the response; 0 on padding.

    Take this where token rewards need a baseline: to subtract a baseline of sequences from every token's
    reward makes the total depend on the length.
    """
    lengths = completion_mask.sum(dim=1, keepdim=True).clamp(min=1)
    return masked(
        token_rewards - masked_sum(token_rewards, completion_mask)[:, None] / lengths, completion_mask
    )


def _all_equal(values: Tensor, mask: Tensor) -> bool:
    kept = values[mask]
    return bool((kept == kept[:1]).all())
