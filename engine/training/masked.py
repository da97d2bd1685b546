"""Sums and means over the tokens that count; what does not count may hold anything, NaN included.

A mask is True where a token counts. Soft weights, from 0 to 1, may stand in its place everywhere.

Means take a `total`: what they are divided by where the values are a part of a batch, so that the means of
all parts add up to that of the batch.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor

Mask = Bool[Tensor, "batch tokens"] | Float[Tensor, "batch tokens"]
"""Which tokens count, or how much each does."""


def masked(
    values: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"] | Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """`values` times the mask; exactly 0 where nothing counts, in value and in gradient."""
    if mask.dtype == torch.bool:
        return torch.where(mask, values, torch.zeros_like(values))
    return torch.where(mask > 0, values * mask, torch.zeros_like(values))


def masked_sum(values: Float[Tensor, "batch tokens"], mask: Mask) -> Float[Tensor, " batch"]:
    """sum_t mask * values, row by row."""
    return masked(values, mask).sum(dim=1)


def masked_mean(
    values: Float[Tensor, "*shape"],
    mask: Bool[Tensor, "*shape"] | Float[Tensor, "*shape"],
    total: float | None = None,
) -> Float[Tensor, ""]:
    """sum(mask * values) / sum(mask) over everything; 0, with a zero gradient, where nothing counts."""
    return masked(values, mask).sum() / _above_zero(mask.sum() if total is None else total)


def dropped_by(mask: Mask, completion_mask: Bool[Tensor, "batch tokens"]) -> Mask:
    """True at tokens of the completion that the mask drops, or how much of each."""
    if mask.dtype == torch.bool:
        return completion_mask & ~mask
    return masked(1 - mask, completion_mask)


def last_tokens(completion_mask: Bool[Tensor, "batch tokens"]) -> Bool[Tensor, "batch tokens"]:
    """True at the last token of each completion, whose padding lies at its end."""
    following = torch.nn.functional.pad(completion_mask[:, 1:], (0, 1), value=False)
    return completion_mask & ~following


def weighted_mean(
    values: Float[Tensor, " batch"], weights: Float[Tensor, " batch"] | None, total: float | None = None
) -> Float[Tensor, ""]:
    """sum(weights * values) / sum(weights); the plain mean without weights.

    0, with a zero gradient, where all weights are 0. Weights are at least 0.
    """
    if weights is None:
        return values.sum() / (max(len(values), 1) if total is None else _above_zero(total))
    return (weights * values).sum() / _above_zero(weights.sum() if total is None else total)


def _above_zero(total: Real[Tensor, ""] | float) -> Real[Tensor, ""] | float:
    """The denominator, or 1 where it is 0."""
    if isinstance(total, Tensor):
        return torch.where(total > 0, total, torch.ones_like(total))
    return total if total > 0 else 1.0
