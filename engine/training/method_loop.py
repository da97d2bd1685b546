"""What the loop asks of a method: examples of an update, what their losses are divided by, and the loss.

The loop knows no method, and a method knows nothing of optimisers, processes, checkpoints or reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from engine.training.trained_model import TrainedModel

Item = TypeVar("Item")


class Shard(NamedTuple):
    """Which of the processes this is."""

    rank: int
    of: int

    def take(self, items: Sequence[Item]) -> list[Item]:
        """This process's share of what all of them see alike."""
        return list(items[self.rank :: self.of])


@runtime_checkable
class Example(Protocol):
    """What stands or falls together in a split of the batch: a pair, a response."""

    @property
    def tokens(self) -> int:
        """Tokens that a forward pass reads for it."""
        ...


E = TypeVar("E", bound=Example)


Sums = dict[str, tuple[float, float]]
"""By metric: (sum, weight); the metric is sum / weight over all parts of a batch and all processes. A weight
of 0 stands for a metric that is the sum itself."""


@dataclass(frozen=True, slots=True)
class PartLoss:
    """The loss of a part of a batch. The losses of all parts add up to the batch's loss."""

    loss: Tensor
    sums: Sums = field(default_factory=dict)


@runtime_checkable
class MethodLoop(Protocol[E]):
    """A method, prepared: its data read, its frozen models loaded."""

    updates_per_rollout_phase: int
    """Updates that learn from the same rollouts, 1 where none are drawn; checkpoints fall between phases."""
    has_value_head: bool
    """Whether `values` will be asked of a causal LM, for which it is given a scalar head."""

    def examples(self, update: int, model: TrainedModel, shard: Shard) -> list[E]:
        """This process's examples of update `update` (from 0): a function of it, the seed and the weights.

        Called in order, with the model in evaluation mode, without gradients.
        """
        ...

    def totals(self, examples: Sequence[E]) -> dict[str, float]:
        """What the losses are divided by, summed over this process's examples; the loop adds processes up."""
        ...

    def loss(self, model: TrainedModel, examples: Sequence[E], totals: Mapping[str, float]) -> PartLoss:
        """The loss of some of the examples, with gradients."""
        ...

    def evaluate(self, model: TrainedModel, shard: Shard) -> Sums:
        """Metrics `held_out/...` on rows that are never trained on; no gradients."""
        ...

    def state(self) -> dict[str, object]:
        """What a checkpoint must carry beside the weights, to be handed to `restore`. Plain JSON."""
        ...

    def restore(self, state: Mapping[str, object]) -> None: ...


def padded(flat: Tensor, lengths: Sequence[int]) -> Tensor:
    """Rows of `lengths` laid end to end -> (rows, longest), 0 behind each; gradients pass."""
    return torch.nn.utils.rnn.pad_sequence(list(torch.split(flat, list(lengths))), batch_first=True)
