"""The loop of a method that is one function of a pair's log-probabilities, such as a preference loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from engine.training.loops.offline import (
    OfflineData,
    OfflineLoop,
    PairExample,
    SideBatch,
    by_side,
    counted_pairs,
    entropy_sums,
    mask_sums,
    row_of,
    side_batch,
)
from engine.training.losses.dpo import PairLosses, SideLogprobs
from engine.training.masked import weighted_mean
from engine.training.method_loop import PartLoss, Shard, Sums
from engine.training.trained_model import TrainedModel
from engine.types import SIDES, Side

PairLoss = Callable[[SideLogprobs, SideLogprobs], PairLosses]
"""From the chosen and the rejected side. Reference log-probabilities are NaN unless the method `compares`."""


class PairLoop(OfflineLoop):
    """Descends the mean loss of the pairs that count; held-out pairs are read with every token kept."""

    def __init__(self, data: OfflineData, loss: PairLoss) -> None:
        super().__init__(data)
        self._loss = loss
        self._held_out: list[PairExample] | None = None

    def totals(self, examples: Sequence[PairExample]) -> dict[str, float]:
        return {"pairs": float(counted_pairs(examples, torch.device("cpu")).sum())}

    def loss(
        self, model: TrainedModel, examples: Sequence[PairExample], totals: Mapping[str, float]
    ) -> PartLoss:
        found, entropies = self._read(model, examples)
        counted = counted_pairs(examples, found.losses.device)
        pairs = float(counted.sum())
        sums: Sums = {
            "train/margin": (float((found.margins * counted).sum()), pairs),
            "train/accuracy": (float(((found.margins > 0) * counted).sum()), pairs),
        }
        loss = weighted_mean(found.losses, counted, totals["pairs"])
        return PartLoss(loss, sums | mask_sums(examples) | entropy_sums(entropies, examples))

    def evaluate(self, model: TrainedModel, shard: Shard) -> Sums:
        if not self.data.held_out:
            return {}
        if self._held_out is None:
            self._held_out = self.data.read(shard.take(self.data.held_out), model)
        sums = [0.0, 0.0, 0.0]
        size = self.data.request.optimisation.batch_size
        with torch.no_grad():
            for start in range(0, len(self._held_out), size):
                found, _ = self._read(model, self._held_out[start : start + size])
                parts = (found.losses, found.margins > 0, found.margins)
                sums = [total + float(part.sum()) for total, part in zip(sums, parts, strict=True)]
        count = float(len(self._held_out))
        names = ("held_out/loss", "held_out/accuracy", "held_out/margin")
        return {name: (total, count) for name, total in zip(names, sums, strict=True)}

    def _read(self, model: TrainedModel, examples: Sequence[PairExample]) -> tuple[PairLosses, Tensor | None]:
        """Losses of the pairs, and the entropies of their tokens."""
        read = model([row_of(one.pair) for one in examples], entropies=True)
        assert read.logprobs is not None
        logprobs = by_side(read.logprobs, examples)
        sides = [_side(logprobs, side_batch(examples, side, read.logprobs.device), side) for side in SIDES]
        return self._loss(*sides), read.entropies


def _side(logprobs: Mapping[Side, Tensor], batch: SideBatch, side: Side) -> SideLogprobs:
    policy = logprobs[side]
    reference = torch.full_like(policy, torch.nan) if batch.reference is None else batch.reference
    return SideLogprobs(policy, reference, batch.mask, batch.completion)
