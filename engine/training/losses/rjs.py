"""Rejection sampling's loss: the likelihood of the kept tokens of the best sampled response."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from engine.training.masked import Mask, masked_mean


def rjs_loss(
    logprobs: Float[Tensor, "batch tokens"], mask: Mask, total: float | None = None
) -> Float[Tensor, ""]:
    """loss = -sum(mask * logprobs) / sum(mask), over all rows at once [paper].

    logprobs: nats, of the response with the highest reward among the sampled ones. The denominator counts
    tokens, so that a row that is masked fully is dropped; where all are, the loss and its gradient are 0.
    total: kept tokens of the batch that these rows are a part of; None where they are all of it.
    """
    return -masked_mean(logprobs, mask, total)
