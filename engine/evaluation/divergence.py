"""How far a policy has gone from its reference, on texts of its own.

KL(policy || reference) a token: at every position of responses that the policy draws at temperature 1, the
exact sum over the vocabulary sum_v p_v (log p_v - log q_v), averaged over all positions. It is unbiased,
never negative, and spreads far less than an estimate from the drawn tokens alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float32

from engine.evaluation.intervals import Interval, ratio_interval
from engine.language_models import LoadedModel
from engine.logprobs import MIN_TILE_POSITIONS, TILE_NUMBERS
from engine.ragged import Row
from engine.reading import Plan, batches, hidden_states, own_logits, plan_of


def divergence(sums: Sequence[float], tokens: Sequence[int], confidence: float) -> Interval:
    """Nats a token with the interval over responses, of the sum and the number of tokens of each."""
    return ratio_interval(np.array(sums, np.float64), np.array(tokens, np.float64), confidence)


@torch.inference_mode()
def token_divergences(
    policy: LoadedModel, reference: LoadedModel, rows: Sequence[Row], token_budget: int
) -> list[Float32[np.ndarray, " response"]]:
    """KL(policy || reference) in nats at every token of the single branch of every row."""
    if policy is reference:
        return [np.zeros(len(row.branches[0]), np.float32) for row in rows]
    # The last token is predicted, not read.
    seen = [Row(row.prompt, (row.branches[0][:-1],)) for row in rows]
    plans = plan_of(policy), plan_of(reference)
    found: list[Float32[np.ndarray, " response"]] = [np.zeros(0, np.float32)] * len(rows)
    slower: Plan = next((plan for plan in ("alone", "padded") if plan in plans), "ragged")
    for batch in batches(seen, token_budget, slower):
        chosen = [seen[index] for index in batch]
        kl = torch.cat(list(_divergences(policy, reference, chosen, plans))).cpu().numpy()
        start = 0
        for index in batch:
            length = len(rows[index].branches[0])
            found[index] = kl[start : start + length]
            start += length
    return found


def _divergences(
    policy: LoadedModel, reference: LoadedModel, rows: Sequence[Row], plans: tuple[Plan, Plan]
) -> Iterator[torch.Tensor]:
    """KL at every position of a batch, a tile at a time."""
    readers = [_Logits(loaded, rows, plan) for loaded, plan in zip((policy, reference), plans, strict=True)]
    # A vocabulary that was padded with rows that no token uses may be larger in one of them.
    vocab = min(policy.vocab_size, reference.vocab_size)
    tile = max(MIN_TILE_POSITIONS, TILE_NUMBERS // max(policy.vocab_size, reference.vocab_size))
    for start in range(0, readers[0].positions, tile):
        ours, theirs = (one.part(start, start + tile)[:, :vocab].log_softmax(1) for one in readers)
        yield (ours.exp() * (ours - theirs)).sum(1).clamp_(min=0)


class _Logits:
    """Logits of a model over a batch, made where they are asked for."""

    def __init__(self, loaded: LoadedModel, rows: Sequence[Row], plan: Plan) -> None:
        self._head = None if plan == "alone" else loaded.head
        self._states = own_logits(loaded, rows[0]) if plan == "alone" else hidden_states(loaded, rows, plan)
        self.positions = len(self._states)

    def part(self, start: int, end: int) -> torch.Tensor:
        states = self._states[start:end]
        return states.float() if self._head is None else self._head(states)
