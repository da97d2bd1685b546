"""A reward model's loss: Bradley-Terry on rewards of responses, read at the last token or at segment ends."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from engine.training.masked import last_tokens, masked_sum, weighted_mean


@dataclass(frozen=True, slots=True)
class RewardModelLoss:
    """A loss to go down, and what a log wants to know of it. All but `loss` are detached."""

    loss: Float[Tensor, ""]
    margins: Float[Tensor, " batch"]
    """chosen_rewards - rejected_rewards, of every pair, counted or not."""
    accuracy: Float[Tensor, ""]
    """The share of counted pairs whose chosen response has the higher reward; 0 where none counts."""


def bradley_terry_loss(
    chosen_rewards: Float[Tensor, " batch"],
    rejected_rewards: Float[Tensor, " batch"],
    *,
    counted: Float[Tensor, " batch"] | None = None,
    total: float | None = None,
) -> RewardModelLoss:
    """loss = sum(counted * -log sigmoid(chosen_rewards - rejected_rewards)) / sum(counted).

    counted: weights of the pairs, at least 0; None counts every pair once. Where none counts, the loss and
    its gradient are 0. total: the sum of weights of the batch that these pairs are a part of.
    """
    margins = chosen_rewards - rejected_rewards
    weights = None if counted is None else counted.to(margins.dtype)
    return RewardModelLoss(
        loss=weighted_mean(-logsigmoid(margins), weights, total),
        margins=margins.detach(),
        accuracy=weighted_mean((margins.detach() > 0).to(margins.dtype), weights, total),
    )


def last_token_rewards(
    scores: Float[Tensor, "batch tokens"], completion_mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, " batch"]:
    """The score at the last token of each completion; 0 for a row without tokens."""
    return masked_sum(scores, last_tokens(completion_mask))


def segment_end_rewards(
    scores: Float[Tensor, "batch tokens"], segment_ends: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, " batch"]:
    """The mean score at the last tokens of the segments: the segment reward model of arXiv 2501.02790.

    segment_ends: True at the last token of every segment. A row without segments gets 0.
    """
    return masked_sum(scores, segment_ends) / segment_ends.sum(dim=1).clamp(min=1)
