"""Rollouts with their advantages: what an update learns from, read by the model that is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from engine.training.method_loop import Sums
from engine.training.rollouts import Rollout
from engine.training.shared_prompts import rows_by_prompt
from engine.training.trained_model import TrainedModel


@dataclass(frozen=True, slots=True, eq=False)
class Experience:
    """A rollout, and what is to be learnt from it. Arrays have one entry a token of the response."""

    rollout: Rollout
    weights: Float32[np.ndarray, " response"]
    """How much each token counts, from 0 to 1: the mask."""
    advantages: Float32[np.ndarray, " response"]
    returns: Float32[np.ndarray, " response"] | None = None
    """What the critic should have said before each token; None where there is no critic."""

    @property
    def tokens(self) -> int:
        """Tokens that a forward pass reads for it, if its prompt is not shared."""
        return self.rollout.tokens


class ReadExperience(NamedTuple):
    """A part of a batch as padded tensors, (batch, tokens); padding lies at the end."""

    logprobs: Float[Tensor, "batch tokens"]
    """Of the model now, with gradients."""
    values: Float[Tensor, "batch tokens"] | None
    """Of the critic now, before each token, with gradients."""
    old_logprobs: Float[Tensor, "batch tokens"]
    reference_logprobs: Float[Tensor, "batch tokens"]
    old_values: Float[Tensor, "batch tokens"] | None
    weights: Float[Tensor, "batch tokens"]
    advantages: Float[Tensor, "batch tokens"]
    returns: Float[Tensor, "batch tokens"] | None
    completion: Bool[Tensor, "batch tokens"]


def read_experience(model: TrainedModel, examples: Sequence[Experience]) -> ReadExperience:
    """What the model says of the examples now, beside what is known of them; prompts are read once."""
    rollouts = [one.rollout for one in examples]
    rows = rows_by_prompt([(one.prompt, one.ids) for one in rollouts])
    with_values = examples[0].returns is not None
    read = model(rows.rows, values=with_values)
    assert read.logprobs is not None
    lengths = [len(branch) for row in rows.rows for branch in row.branches]
    order = _order(rows.places, [len(row.branches) for row in rows.rows])
    tracks = torch.split(read.logprobs, lengths)
    values = old_values = returns = None
    device = read.logprobs.device
    if with_values:
        assert read.values is not None
        of_branches = torch.split(read.values, [length + 1 for length in lengths])
        values = pad([of_branches[at][:-1] for at in order])
        old_values = _pad([one.values[:-1] for one in rollouts if one.values is not None], device)
        returns = _pad([one.returns for one in examples if one.returns is not None], device)
    return ReadExperience(
        logprobs=pad([tracks[at] for at in order]),
        values=values,
        old_logprobs=_pad([one.logprobs for one in rollouts], device),
        reference_logprobs=_pad([one.reference_logprobs for one in rollouts], device),
        old_values=old_values,
        weights=_pad([one.weights for one in examples], device),
        advantages=_pad([one.advantages for one in examples], device),
        returns=returns,
        completion=_pad([np.ones(len(one.ids), np.bool_) for one in rollouts], device),
    )


def totals_of(examples: Sequence[Experience]) -> dict[str, float]:
    """What losses are divided by: tokens that count, and all tokens of the responses."""
    return {
        "kept": float(sum(one.weights.sum(dtype=np.float64) for one in examples)),
        "tokens": float(sum(len(one.rollout.ids) for one in examples)),
    }


def experience_sums(examples: Sequence[Experience]) -> Sums:
    """What a log wants to know of the rollouts of a part of a batch."""
    rollouts = [one.rollout for one in examples]
    count, totals = float(len(rollouts)), totals_of(examples)
    tokens = totals["tokens"]
    return {
        "train/reward": (sum(one.reward for one in rollouts), count),
        "train/token_reward": (
            float(sum(one.said.increments.sum(dtype=np.float64) for one in rollouts)),
            tokens,
        ),
        "train/response_tokens": (tokens, count),
        "train/kl": (sum(one.kl() for one in rollouts), tokens),
        "train/entropy": (float(sum(one.entropies.sum(dtype=np.float64) for one in rollouts)), tokens),
        "train/truncated": (float(sum(not one.ended for one in rollouts)), count),
        "train/kept_fraction": (totals["kept"], tokens),
        "train/all_masked": (float(sum(not one.weights.any() for one in examples)), 0.0),
    }


def pad(tracks: Sequence[Tensor]) -> Tensor:
    """(rows, longest), 0 behind each; gradients pass."""
    return torch.nn.utils.rnn.pad_sequence(list(tracks), batch_first=True)


def _pad(tracks: Sequence[np.ndarray], device: torch.device) -> Tensor:
    return pad([torch.from_numpy(track) for track in tracks]).to(device)


def _order(places: Sequence[tuple[int, int]], branches: Sequence[int]) -> list[int]:
    """The position of each response among the branches of all rows laid end to end."""
    firsts = np.concatenate([[0], np.cumsum(branches)])
    return [int(firsts[row]) + branch for row, branch in places]
