"""Log-probability, entropy and rank of tokens from hidden states, without a [batch, tokens, vocab] tensor.

The head runs in tiles of a few positions; whatever the dtype of the model, head and sums are float32. In
training (`trained_logprobs`) the backward pass computes each tile again, so that no logits are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float32, Int

TILE_NUMBERS = 4 * 2**20
"""Logits that exist at a time (16 MiB in float32)."""
MIN_TILE_POSITIONS = 16
"""A tile of fewer positions would read the head's weights too often for what it computes."""

TRAINED_TILE_NUMBERS = 16 * 2**20
"""The same in training (64 MiB), where a tile also reads and writes the gradient of all of the head."""

Head = Callable[[Float[torch.Tensor, "tile hidden"]], Float32[torch.Tensor, "tile vocab"]]
"""From hidden states to float32 logits."""


class TokenTracks(NamedTuple):
    """What one pass of the head says of each target token."""

    logprobs: Float32[torch.Tensor, " positions"]
    """Nats."""
    entropies: Float32[torch.Tensor, " positions"] | None
    """Nats, of the distribution that the token was drawn from."""
    ranks: Int[torch.Tensor, " positions"] | None
    """How many tokens are more probable than the target."""


def token_tracks(
    hidden: Float[torch.Tensor, "positions hidden"],
    targets: Int[torch.Tensor, " positions"],
    head: Head,
    vocab_size: int,
    *,
    with_distribution: bool = True,
) -> TokenTracks:
    """The tracks of `targets`, each predicted from the hidden state at the same index.

    Without `with_distribution` only log-probabilities are computed, which a reference model needs.
    """
    tile = max(MIN_TILE_POSITIONS, TILE_NUMBERS // max(vocab_size, 1))
    parts = [
        tracks_of_logits(head(hidden[start : start + tile]), targets[start : start + tile], with_distribution)
        for start in range(0, len(targets), tile)
    ]
    if not parts:
        return tracks_of_logits(torch.zeros(0, 1, device=hidden.device), targets, with_distribution)
    return TokenTracks(
        torch.cat([part.logprobs for part in parts]),
        _joined([part.entropies for part in parts]),
        _joined([part.ranks for part in parts]),
    )


class HeadWeights(NamedTuple):
    """What makes logits of hidden states: cap * tanh(factor * (hidden @ weight.T + bias) / cap)."""

    weight: Float[torch.Tensor, "vocab hidden"]
    bias: Float[torch.Tensor, " vocab"] | None
    factor: float = 1.0
    cap: float | None = None

    def logits(self, hidden: Float[torch.Tensor, "tile hidden"]) -> Float32[torch.Tensor, "tile vocab"]:
        """float32 logits, whatever the dtype of the hidden states."""
        bias = None if self.bias is None else self.bias.float()
        logits = torch.nn.functional.linear(hidden.float(), self.weight.float(), bias)
        if self.factor != 1.0:
            logits.mul_(self.factor)
        if self.cap:
            logits.div_(self.cap).tanh_().mul_(self.cap)
        return logits


class TrainedTracks(NamedTuple):
    """What training reads of each target token."""

    logprobs: Float32[torch.Tensor, " positions"]
    """Nats; the gradient flows through these."""
    entropies: Float32[torch.Tensor, " positions"] | None
    """Nats, detached."""


def trained_logprobs(
    hidden: Float[torch.Tensor, "positions hidden"],
    targets: Int[torch.Tensor, " positions"],
    head: HeadWeights,
    *,
    with_entropies: bool = False,
) -> TrainedTracks:
    """Log-probabilities of `targets`, with gradients; one tile of logits exists at a time."""
    logprobs, entropies = _TiledLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden.float(), head.weight, head.bias, targets, head.factor, head.cap, with_entropies
    )
    return TrainedTracks(logprobs, entropies if with_entropies else None)


class _TiledLogprobs(torch.autograd.Function):
    """logprob = z[target] - log sum exp z, whose gradient is onehot(target) - softmax(z)."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        factor: float,
        cap: float | None,
        with_entropies: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        head = HeadWeights(weight, bias, factor, cap)
        count = len(targets)
        logprobs, sums = hidden.new_empty(count), hidden.new_empty(count)
        entropies = hidden.new_empty(count if with_entropies else 0)
        with torch.autocast(hidden.device.type, enabled=False):
            for tile in _tiles(count, weight.shape[0]):
                logits = head.logits(hidden[tile])
                logprobs[tile] = logits.gather(1, targets[tile, None])[:, 0]
                sums[tile] = logits.logsumexp(1)
                if with_entropies:
                    logits.sub_(sums[tile, None])
                    entropies[tile] = -(logits.exp() * logits).sum(1)
        logprobs.sub_(sums)
        ctx.save_for_backward(hidden, weight, bias, targets, sums)
        ctx.numbers = factor, cap
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies.clamp_(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, bias, targets, sums = ctx.saved_tensors
        factor, cap = ctx.numbers
        head = HeadWeights(weight, bias, factor, cap)
        of_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        of_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        with torch.autocast(hidden.device.type, enabled=False):
            for tile in _tiles(len(targets), weight.shape[0]):
                logits = head.logits(hidden[tile])
                slope = None if not cap else 1 - (logits / cap) ** 2
                # onehot - softmax, times what comes from above, in the memory of the logits.
                of_logits = logits.sub_(sums[tile, None]).exp_().neg_()
                of_logits.scatter_add_(1, targets[tile, None], torch.ones_like(sums[tile, None]))
                of_logits.mul_(gradients[0][tile, None])
                if slope is not None:
                    of_logits.mul_(slope)
                if factor != 1.0:
                    of_logits.mul_(factor)
                if of_hidden is not None:
                    of_hidden[tile] = of_logits @ weight.float()
                if of_weight is not None:
                    of_weight.addmm_(of_logits.T.to(of_weight.dtype), hidden[tile].to(of_weight.dtype))
                if of_bias is not None:
                    of_bias += of_logits.sum(0).to(of_bias.dtype)
        return of_hidden, of_weight, of_bias, None, None, None, None


def _tiles(positions: int, vocab_size: int) -> Iterator[slice]:
    size = max(MIN_TILE_POSITIONS, TRAINED_TILE_NUMBERS // max(vocab_size, 1))
    return (slice(start, min(start + size, positions)) for start in range(0, positions, size))


def _joined(parts: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None


def tracks_of_logits(
    logits: Float32[torch.Tensor, "tile vocab"],
    targets: Int[torch.Tensor, " tile"],
    with_distribution: bool,
) -> TokenTracks:
    """The tracks of one tile, computed in the memory of its logits.

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
        return TokenTracks((of_target - highest)[:, 0] - log_sum, None, None)
    exponentials = logits.exp()
    total = exponentials.sum(1)
    log_total = total.log()
    expected = exponentials.mul_(logits).sum(1).div_(total)
    return TokenTracks((of_target - highest)[:, 0] - log_total, (log_total - expected).clamp_(min=0), ranks)
