"""Log-probability, entropy and rank of tokens from hidden states, without a [batch, tokens, vocab] tensor.

The head runs in tiles of a few positions; whatever the dtype of the model, head and sums are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Int

TILE_NUMBERS = 4 * 2**20
"""Logits that exist at a time (16 MiB in float32)."""
MIN_TILE_POSITIONS = 16
"""A tile of fewer positions would read the head's weights too often for what it computes."""

Head = Callable[[Float[torch.Tensor, "tile hidden"]], Float32[torch.Tensor, "tile vocab"]]
"""From hidden states to float32 logits."""


class TokenLanes(NamedTuple):
    """What one pass of the head says of each target token."""

    logprobs: Float32[torch.Tensor, " positions"]
    """Nats."""
    entropies: Float32[torch.Tensor, " positions"] | None
    """Nats, of the distribution that the token was drawn from."""
    ranks: Int[torch.Tensor, " positions"] | None
    """How many tokens are more probable than the target."""


def token_lanes(
    hidden: Float[torch.Tensor, "positions hidden"],
    targets: Int[torch.Tensor, " positions"],
    head: Head,
    vocab_size: int,
    *,
    with_distribution: bool = True,
) -> TokenLanes:
    """The lanes of `targets`, each predicted from the hidden state at the same index.

    Without `with_distribution` only log-probabilities are computed, which a reference model needs.
    """
    tile = max(MIN_TILE_POSITIONS, TILE_NUMBERS // max(vocab_size, 1))
    parts = [
        lanes_of_logits(head(hidden[start : start + tile]), targets[start : start + tile], with_distribution)
        for start in range(0, len(targets), tile)
    ]
    if not parts:
        return lanes_of_logits(torch.zeros(0, 1, device=hidden.device), targets, with_distribution)
    return TokenLanes(
        torch.cat([part.logprobs for part in parts]),
        _joined([part.entropies for part in parts]),
        _joined([part.ranks for part in parts]),
    )


def _joined(parts: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None


def lanes_of_logits(
    logits: Float32[torch.Tensor, "tile vocab"],
    targets: Int[torch.Tensor, " tile"],
    with_distribution: bool,
) -> TokenLanes:
    """The lanes of one tile, computed in the memory of its logits.

    With m = max logit, e = exp(logit - m), Z = sum e:
        logprob = logit[target] - m - log Z
        entropy = log Z - sum(e * (logit - m)) / Z
    """
    of_target = logits.gather(1, targets[:, None])  # (tile, 1)
    ranks = (logits > of_target).sum(1) if with_distribution else None
    highest = logits.amax(1, keepdim=True)
    logits.sub_(highest)
    if not with_distribution:
        log_sum = logits.exp_().sum(1).log_()
        return TokenLanes((of_target - highest)[:, 0] - log_sum, None, None)
    exponentials = logits.exp()
    total = exponentials.sum(1)
    log_total = total.log()
    expected = exponentials.mul_(logits).sum(1).div_(total)
    return TokenLanes((of_target - highest)[:, 0] - log_total, (log_total - expected).clamp_(min=0), ranks)
