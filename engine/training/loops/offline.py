"""What methods share that learn from the responses of the data: batches of pairs, read in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Shaped
from torch import Tensor

from engine.ragged import Row
from engine.training.data import batch_of
from engine.training.frozen import FrozenModels
from engine.training.method_loop import Shard, Sums
from engine.training.request import TrainingRequest
from engine.training.supervision import TrainingPair, TrainingSide
from engine.training.trained_model import TrainedModel
from engine.types import SIDES, Side


@dataclass(frozen=True, slots=True)
class PairExample:
    """A pair of a batch, with what the reference says of it where the method asks."""

    pair: TrainingPair
    reference: Mapping[Side, Float32[np.ndarray, " response"]] = field(default_factory=dict)
    """Nats; empty where no reference is read."""

    @property
    def tokens(self) -> int:
        """Tokens that a forward pass reads."""
        return self.pair.tokens


class SideBatch(NamedTuple):
    """One side of some pairs as padded tensors, (batch, tokens); padding lies at the end."""

    completion: Bool[Tensor, "batch tokens"]
    mask: Shaped[Tensor, "batch tokens"]
    """Bool, or float32 soft weights."""
    reference: Float[Tensor, "batch tokens"] | None
    ends: Bool[Tensor, "batch tokens"]


@dataclass(frozen=True, slots=True)
class OfflineData:
    """The rows of a training, and how batches are drawn from them."""

    trained: Sequence[TrainingPair]
    held_out: Sequence[TrainingPair]
    request: TrainingRequest
    frozen: FrozenModels

    def examples(self, update: int, model: TrainedModel, shard: Shard) -> list[PairExample]:
        """This process's pairs of an update."""
        optimisation = self.request.optimisation
        picked = batch_of(update, optimisation.batch_size, len(self.trained), optimisation.seed)
        return self.read([self.trained[at] for at in shard.take(picked)], model)

    def read(self, pairs: Sequence[TrainingPair], model: TrainedModel) -> list[PairExample]:
        """Pairs with the reference's log-probabilities."""
        if not self.request.method.reads_reference or not pairs:
            return [PairExample(pair) for pair in pairs]
        rows = [row_of(pair) for pair in pairs]
        read = self.frozen.reference_logprobs(model, rows, self.request.optimisation.token_budget)
        return [
            PairExample(pair, dict(zip(sides_of(pair), tracks, strict=True)))
            for pair, tracks in zip(pairs, read, strict=True)
        ]


class OfflineLoop:
    """The loop of a method on responses of the data; a method's own adds `totals`, `loss` and `evaluate`."""

    updates_per_rollout_phase = 1
    has_value_head = False

    def __init__(self, data: OfflineData) -> None:
        self.data = data

    def examples(self, update: int, model: TrainedModel, shard: Shard) -> list[PairExample]:
        return self.data.examples(update, model, shard)

    def state(self) -> dict[str, object]:
        return {}

    def restore(self, state: Mapping[str, object]) -> None:
        return


def row_of(pair: TrainingPair) -> Row:
    """The pair as it is read: its prompt once, its sides as branches."""
    return Row(pair.prompt, tuple(pair.sides[side].ids for side in sides_of(pair)))


def sides_of(pair: TrainingPair) -> list[Side]:
    """The sides that the pair has, chosen first."""
    return [side for side in SIDES if side in pair.sides]


def by_side(flat: Tensor, examples: Sequence[PairExample]) -> dict[Side, Float[Tensor, "batch tokens"]]:
    """A track of all branches laid end to end -> one padded tensor a side. Every pair has the same sides."""
    lengths = [len(one.pair.sides[side].ids) for one in examples for side in sides_of(one.pair)]
    parts = torch.split(flat, lengths)
    sides = sides_of(examples[0].pair)
    return {
        side: torch.nn.utils.rnn.pad_sequence(list(parts[at :: len(sides)]), batch_first=True)
        for at, side in enumerate(sides)
    }


def side_batch(examples: Sequence[PairExample], side: Side, device: torch.device) -> SideBatch:
    """What is known of one side of the examples, beside what the trained model says."""
    sides = [one.pair.sides[side] for one in examples]
    has_reference = side in examples[0].reference
    return SideBatch(
        _pad([one.completion for one in sides], device),
        _pad([one.mask for one in sides], device),
        _pad([one.reference[side] for one in examples], device) if has_reference else None,
        _pad([one.ends for one in sides], device),
    )


def counted_pairs(examples: Sequence[PairExample], device: torch.device) -> Float[Tensor, " batch"]:
    """1 for a pair of which any side is counted, 0 for one that is skipped (METHOD 3.6)."""
    counted = [any(side.counted for side in one.pair.sides.values()) for one in examples]
    return torch.tensor(counted, dtype=torch.float32, device=device)


def mask_sums(examples: Sequence[PairExample]) -> Sums:
    """Kept fractions by side, and how many responses keep nothing."""
    sums: Sums = {}
    nothing = 0
    for side in SIDES:
        sides: list[TrainingSide] = [one.pair.sides[side] for one in examples if side in one.pair.sides]
        if sides:
            kept = float(sum(one.mask.sum() for one in sides))
            sums[f"train/kept_{side}"] = kept, float(sum(one.completion.sum() for one in sides))
            nothing += sum(not one.mask.any() for one in sides)
    return sums | {"train/all_masked": (float(nothing), 0.0)}


def entropy_sums(entropies: Tensor | None, examples: Sequence[PairExample]) -> Sums:
    """Mean entropy of the policy over the completions, nats."""
    if entropies is None:
        return {}
    completion = np.concatenate(
        [one.pair.sides[side].completion for one in examples for side in sides_of(one.pair)]
    )
    kept = entropies[torch.from_numpy(completion).to(entropies.device)]
    return {"train/entropy": (float(kept.sum()), float(len(kept)))}


def _pad(tracks: Sequence[np.ndarray], device: torch.device) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(np.ascontiguousarray(track)) for track in tracks], batch_first=True
    ).to(device)
