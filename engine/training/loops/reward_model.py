"""Reward models from preferences: read at the last token, at every token, or at segment ends.

With V_t the scalar head after token t, and R the reward of a response:

    last      R = V_T
    sum       R = sum_t V_t over the tokens before the last, and V_T beside it: loss = BT(sum) + BT(last)
    segment   R = mean of V_t at segment ends (arXiv 2501.02790)
    loss     += centre * mean over pairs of (mean_t V_t over both sides)**2

`sum` gives V_t a meaning at every token, which a model read at its last token alone does not have; its second
term keeps the last value the reward of the whole [ours].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engine.ragged import Row
from engine.reading import value_places
from engine.training.loops.offline import (
    OfflineData,
    OfflineLoop,
    PairExample,
    SideBatch,
    by_side,
    side_batch,
)
from engine.training.losses.reward_model import (
    RewardModelLoss,
    bradley_terry_loss,
    last_token_rewards,
    segment_end_rewards,
)
from engine.training.masked import last_tokens, masked_sum
from engine.training.method_loop import PartLoss, Shard, Sums
from engine.training.methods.reward_model import RewardModel
from engine.training.supervision import TrainingPair
from engine.training.trained_model import TrainedModel
from engine.types import SIDES


class RewardModelLoop(OfflineLoop):
    """Bradley-Terry on the rewards of both sides."""

    def __init__(self, data: OfflineData, method: RewardModel) -> None:
        super().__init__(data)
        self._method = method

    def totals(self, examples: Sequence[PairExample]) -> dict[str, float]:
        return {"pairs": float(len(examples))}

    def loss(
        self, model: TrainedModel, examples: Sequence[PairExample], totals: Mapping[str, float]
    ) -> PartLoss:
        values, batches = self._values(model, examples)
        found = self._bradley_terry(values, batches, totals["pairs"])
        loss = found.loss
        if self._method.pooling == "sum":
            ends = [last_token_rewards(values[at], one.completion) for at, one in enumerate(batches)]
            loss = loss + bradley_terry_loss(*ends, total=totals["pairs"]).loss
        means = _means(values, batches)
        loss = loss + self._method.centre * (means**2).sum() / totals["pairs"]
        count = float(len(examples))
        rewards = [self._rewards(values[at], one) for at, one in enumerate(batches)]
        sums: Sums = {
            "train/margin": (float(found.margins.sum()), count),
            "train/accuracy": (float((found.margins > 0).sum()), count),
            "train/chosen_reward": (float(rewards[0].detach().sum()), count),
            "train/rejected_reward": (float(rewards[1].detach().sum()), count),
            "train/mean_value": (float(means.detach().sum()), count),
        }
        return PartLoss(loss, sums)

    def evaluate(self, model: TrainedModel, shard: Shard) -> Sums:
        if not self.data.held_out:
            return {}
        pairs = [PairExample(pair) for pair in shard.take(self.data.held_out)]
        loss, right, margin = 0.0, 0.0, 0.0
        size = self.data.request.optimisation.batch_size
        with torch.no_grad():
            for start in range(0, len(pairs), size):
                part = pairs[start : start + size]
                values, batches = self._values(model, part)
                found = self._bradley_terry(values, batches, 1.0)
                loss += float(found.loss)
                right += float((found.margins > 0).sum())
                margin += float(found.margins.sum())
        count = float(len(pairs))
        return {
            "held_out/loss": (loss, count),
            "held_out/accuracy": (right, count),
            "held_out/margin": (margin, count),
        }

    def _values(
        self, model: TrainedModel, examples: Sequence[PairExample]
    ) -> tuple[list[Float[Tensor, "batch tokens"]], list[SideBatch]]:
        """V_t of chosen and rejected responses, and what else is known of them."""
        read = model([_closed(one.pair) for one in examples], logprobs=False, values=True)
        assert read.values is not None
        sides = [one.pair.sides[side] for one in examples for side in SIDES]
        parts = torch.split(read.values, [len(one.ids) + len(one.closing) + 1 for one in sides])
        padding = model.loaded.skipped_padding
        places = [value_places(one.ids, one.closing, padding) for one in sides]
        # The first value of each is that of the prompt.
        after = torch.cat([part[at[1:]] for part, at in zip(parts, places, strict=True)])
        values = by_side(after, examples)
        batches = [side_batch(examples, side, after.device) for side in SIDES]
        return [values[side] for side in SIDES], batches

    def _bradley_terry(
        self, values: Sequence[Tensor], batches: Sequence[SideBatch], total: float
    ) -> RewardModelLoss:
        chosen, rejected = (self._rewards(values[at], one) for at, one in enumerate(batches))
        return bradley_terry_loss(chosen, rejected, total=total)

    def _rewards(self, values: Float[Tensor, "batch tokens"], batch: SideBatch) -> Float[Tensor, " batch"]:
        if self._method.pooling == "last":
            return last_token_rewards(values, batch.completion)
        if self._method.pooling == "segment":
            return segment_end_rewards(values, batch.ends)
        return masked_sum(values, batch.completion & ~last_tokens(batch.completion))


def _closed(pair: TrainingPair) -> Row:
    """The pair as it is read, each side up to where its template ends."""
    return Row(
        pair.prompt,
        tuple(np.concatenate([one.ids, one.closing]) for one in (pair.sides[side] for side in SIDES)),
    )


def _means(values: Sequence[Tensor], batches: Sequence[SideBatch]) -> Float[Tensor, " batch"]:
    """Mean output over the tokens of both sides, pair by pair."""
    sums = [masked_sum(values[at], one.completion) for at, one in enumerate(batches)]
    counts = [one.completion.sum(dim=1) for one in batches]
    return (sums[0] + sums[1]) / (counts[0] + counts[1]).clamp(min=1)
