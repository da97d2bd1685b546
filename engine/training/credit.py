"""Credit: how rewards of responses and of segments become rewards of tokens.

No gradient flows through any of these.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from engine.training.masked import last_tokens, masked, masked_sum

ATTENTION_SHARE = 0.8
"""How much of the reward is spread by attention; the rest stays at the last token."""


@torch.no_grad()
def attention_credit(
    attention: Float[Tensor, "batch tokens"],
    rewards: Float[Tensor, " batch"],
    completion_mask: Bool[Tensor, "batch tokens"],
    *,
    beta: float = ATTENTION_SHARE,
) -> Float[Tensor, "batch tokens"]:
    """Attention-based credit (arXiv 2402.00782), with a = attention / sum_t attention over the completion:

        r_t = beta * rewards * a_t + (1 - beta) * rewards * [t is the last token]

    attention: what the reward model's last layer pays each token from the position where it reads the reward,
    averaged over heads, at least 0. Shares of the prompt and of padding are left out by the normalisation
    [ours]; where none is left for the completion, all credit goes to its last token [ours]. The r_t sum to
    the reward, and each has its sign: this source can never show a conflict within a response.
    """
    attention = masked(attention, completion_mask)
    totals = attention.sum(dim=1, keepdim=True)
    last = last_tokens(completion_mask).to(attention.dtype)
    shares = torch.where(totals > 0, attention / torch.where(totals > 0, totals, 1.0), last)
    return rewards[:, None] * (beta * shares + (1 - beta) * last)


@torch.no_grad()
def spread_over_segments(
    segment_rewards: Float[Tensor, " segments"], lengths: Int[Tensor, " segments"]
) -> Float[Tensor, " response"]:
    """segment_rewards / lengths on every token of each segment: their sum stays (arXiv 2501.02790).

    lengths: tokens of each segment, at least 1, in the order of the response.
    """
    return torch.repeat_interleave(segment_rewards / lengths, lengths)


@torch.no_grad()
def at_segment_ends(
    segment_rewards: Float[Tensor, " segments"], lengths: Int[Tensor, " segments"]
) -> Float[Tensor, " response"]:
    """Each segment's reward at its last token, 0 elsewhere. lengths as in `spread_over_segments`."""
    rewards = segment_rewards.new_zeros(int(lengths.sum()))
    rewards[lengths.cumsum(0) - 1] = segment_rewards
    return rewards


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
