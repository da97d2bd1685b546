"""DPO and what is built on its margin, on masked pairs; also the scorer, which is one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from engine.training.loops.offline import (
    OfflineData,
    OfflineLoop,
    PairExample,
    by_side,
    counted_pairs,
    entropy_sums,
    mask_sums,
    row_of,
    side_batch,
)
from engine.training.losses.dpo import (
    DpoTotals,
    PreferenceLoss,
    SideLogprobs,
    dpo_loss,
    dpo_totals,
    preference_losses,
)
from engine.training.masked import masked_sum
from engine.training.method_loop import PartLoss, Shard, Sums
from engine.training.methods.dpo import Dpo
from engine.training.trained_model import TrainedModel
from engine.types import SIDES


class DpoLoop(OfflineLoop):
    """Preference loss on the tokens that the mask keeps, the same mask on policy and reference."""

    def __init__(self, data: OfflineData, method: Dpo) -> None:
        super().__init__(data)
        self._method = method
        self._held_out: list[PairExample] | None = None

    def totals(self, examples: Sequence[PairExample]) -> dict[str, float]:
        if not examples:
            return DpoTotals(0.0, 0.0, 0.0)._asdict()
        device = torch.device("cpu")
        sides = []
        for side in SIDES:
            batch = side_batch(examples, side, device)
            nothing = torch.zeros(batch.completion.shape)
            sides.append(SideLogprobs(nothing, nothing, batch.mask, batch.completion))
        return dpo_totals(sides[0], sides[1], counted_pairs(examples, device))._asdict()

    def loss(
        self, model: TrainedModel, examples: Sequence[PairExample], totals: Mapping[str, float]
    ) -> PartLoss:
        read = model([row_of(one.pair) for one in examples], entropies=True)
        assert read.logprobs is not None
        logprobs = by_side(read.logprobs, examples)
        sides = []
        for side in SIDES:
            batch = side_batch(examples, side, read.logprobs.device)
            assert batch.reference is not None
            sides.append(SideLogprobs(logprobs[side], batch.reference, batch.mask, batch.completion))
        method, counted = self._method, counted_pairs(examples, read.logprobs.device)
        found = dpo_loss(
            *sides,
            beta=method.beta,
            counted=counted,
            preference=method.preference,
            label_smoothing=method.label_smoothing,
            length_normalised=method.length_normalised,
            rejected_clip=method.rejected_clip,
            sft_weight=method.sft_weight,
            dropped_weight=method.masked_weight,
            totals=DpoTotals(**totals),
        )
        sums = _preference_sums(found, counted) | mask_sums(examples)
        for side, one in zip(SIDES, sides, strict=True):
            sums |= _log_ratio_sums(one, side)
        return PartLoss(found.loss, sums | entropy_sums(read.entropies, examples))

    def evaluate(self, model: TrainedModel, shard: Shard) -> Sums:
        """The plain loss of the held-out pairs, no token masked and no safeguard, and how often it is right:
        what trainings under different masks may be compared by."""
        if not self.data.held_out:
            return {}
        if self._held_out is None:
            self._held_out = self.data.read(shard.take(self.data.held_out), model)
        budget = self.data.request.optimisation.token_budget
        read = model.read_quietly([row_of(one.pair) for one in self._held_out], budget)
        differences = torch.tensor(
            [
                _log_ratio(one, "chosen", tracks[0]["logprobs"])
                - _log_ratio(one, "rejected", tracks[1]["logprobs"])
                for one, tracks in zip(self._held_out, read, strict=True)
            ],
            dtype=torch.float64,
        )
        method, count = self._method, float(len(differences))
        losses = preference_losses(differences, method.beta, method.preference, method.label_smoothing)
        return {
            "held_out/loss": (float(losses.sum()), count),
            "held_out/accuracy": (float((differences > 0).sum()), count),
            "held_out/margin": (float(method.beta * differences.sum()), count),
        }


def _log_ratio(example: PairExample, side: str, logprobs: np.ndarray) -> float:
    one = example.pair.sides[side]  # type: ignore[index]
    ratios = logprobs - example.reference[side]  # type: ignore[index]
    return float(ratios[one.completion].sum(dtype=np.float64))


def _preference_sums(found: PreferenceLoss, counted: torch.Tensor) -> Sums:
    pairs = float(counted.sum())

    def mean(values: torch.Tensor) -> tuple[float, float]:
        return float((values * counted).sum()), pairs

    return {
        "train/margin": mean(found.margins),
        "train/accuracy": mean((found.margins > 0).float()),
        "train/chosen_reward": mean(found.chosen_rewards),
        "train/rejected_reward": mean(found.rejected_rewards),
        "train/preference_loss": (float(found.preference), 0.0),
        "train/sft_loss": (float(found.sft), 0.0),
        "train/masked_drift": (float(found.dropped_drift), 0.0),
    }


def _log_ratio_sums(side: SideLogprobs, name: str) -> Sums:
    """How far the policy has gone from the reference on the responses of the data, nats a token."""
    assert side.completion_mask is not None
    ratios = masked_sum(side.log_ratios().detach(), side.completion_mask)
    return {f"train/{name}_log_ratio": (float(ratios.sum()), float(side.completion_mask.sum()))}
