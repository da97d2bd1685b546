"""Sums and means over the tokens that count; what does not count may hold anything, NaN included."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def masked(values: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """`values` where the mask is True, exactly 0 elsewhere, in value and in gradient."""
    return torch.where(mask, values, torch.zeros_like(values))


def masked_sum(
    values: Float[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, " batch"]:
    """sum_t mask * values, row by row."""
    return masked(values, mask).sum(dim=1)


def masked_mean(values: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """sum(mask * values) / sum(mask) over everything; 0, with a zero gradient, where nothing counts."""
    return masked(values, mask).sum() / mask.sum().clamp(min=1)


def last_tokens(completion_mask: Bool[Tensor, "batch tokens"]) -> Bool[Tensor, "batch tokens"]:
    """True at the last token of each completion, whose padding lies at its end."""
    following = torch.nn.functional.pad(completion_mask[:, 1:], (0, 1), value=False)
    return completion_mask & ~following


def weighted_mean(
    values: Float[Tensor, " batch"], weights: Float[Tensor, " batch"] | None
) -> Float[Tensor, ""]:
    """sum(weights * values) / sum(weights); the plain mean without weights.

    0, with a zero gradient, where all weights are 0. Weights are at least 0.
    """
    if weights is None:
        return values.sum() / max(len(values), 1)
    total = weights.sum()
    return (weights * values).sum() / torch.where(total > 0, total, torch.ones_like(total))
