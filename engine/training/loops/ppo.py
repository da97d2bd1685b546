"""PPO: rollouts, GAE over dense rewards, a critic on the policy's trunk, the clipped surrogate on the mask.

PPO is arXiv 1707.06347. Decided here [ours]:

- The reward of a response is R = (sequence reward - mean) / std, with mean and std over all rollouts so far;
  the critic would find the mean too, but late. Segments earn their increments / std, and what of R is left
  stands at the last token: the sequence reward and dense ones differ in where, never in how much.
- The sign that a segment of a rollout has to agree with is that of R less what the critic expected after the
  prompt.
- Minibatches are drawn from the rollouts of all processes, anew in every epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from engine.masks import RunSegmentation
from engine.training.advantages import gae, whiten
from engine.training.experience import Experience, experience_sums, pad, read_experience
from engine.training.loops.on_policy import OnPolicyLoop, PromptData
from engine.training.losses.ppo import penalised_rewards, surrogate_loss, value_loss
from engine.training.masked import masked_mean
from engine.training.method_loop import PartLoss, Sums
from engine.training.methods.ppo import Ppo
from engine.training.rollout_segments import (
    EarnedRewards,
    dense_rewards,
    weights_of,
    whole_rewards,
)
from engine.training.rollouts import Rollout
from engine.training.trained_model import TrainedModel


class PpoLoop(OnPolicyLoop):
    """A request of method `ppo`, prepared."""

    def __init__(self, data: PromptData) -> None:
        method = data.request.method
        assert isinstance(method, Ppo)
        super().__init__(data, updates=method.epochs * method.minibatches, critic=True)
        self._method = method
        self._seed = data.request.optimisation.seed
        self._advantage_std = 0.0

    def minibatch(self, experience: list[Experience], phase: int, update: int) -> list[Experience]:
        epoch, part = divmod(update, self._method.minibatches)
        order = np.random.default_rng([self._seed, phase, epoch]).permutation(len(experience))
        return [experience[at] for at in np.array_split(order, self._method.minibatches)[part]]

    def loss(
        self, model: TrainedModel, examples: Sequence[Experience], totals: Mapping[str, float]
    ) -> PartLoss:
        read = read_experience(model, examples)
        assert read.values is not None
        assert read.old_values is not None
        assert read.returns is not None
        # min(ratio A, clipped ratio A) is linear in A > 0: soft weights may stand with the advantages.
        surrogate = surrogate_loss(
            read.logprobs,
            read.old_logprobs,
            read.advantages * read.weights,
            read.weights > 0,
            clip=self._method.clip,
            total=totals["kept"],
        )
        critic = value_loss(
            read.values,
            read.old_values,
            read.returns,
            read.completion,
            clip=self._method.value_clip,
            total=totals["tokens"],
        )
        # The parts of a batch share its totals, so that theirs add up to the batch's means.
        count = float(len(examples))
        sums: Sums = {
            "train/clipped": (float(surrogate.clipped), 0.0),
            "train/kl_to_old": (float(surrogate.kl_to_old), 0.0),
            "train/value_loss": (float(critic.detach()), 0.0),
            "train/advantage_std": (self._advantage_std * count, count),
        }
        loss = surrogate.loss + self._method.value_weight * critic
        return PartLoss(loss, sums | experience_sums(examples))

    def learnt(self, rollouts: list[Rollout]) -> list[Experience]:
        """The rollouts with advantages and returns, whitened over all of them."""
        earned = self.segments.earned(rollouts)
        mean = self.segments.sequence_rewards.mean
        scale = self.segments.sequence_rewards.std or 1.0
        expected = [0.0 if one.values is None else float(one.values[0]) for one in rollouts]
        signs = [
            int(np.sign((reward - mean) / scale - value))
            for reward, value in zip(earned.rewards, expected, strict=True)
        ]
        cut = self.segments.cut(rollouts, signs)
        completion = _padded([np.ones(len(one.ids), np.bool_) for one in rollouts])
        rewards = penalised_rewards(
            _padded([(r / scale).astype(np.float32) for r in self._rewards(earned, cut, mean)]),
            _padded([one.logprobs for one in rollouts]),
            _padded([one.reference_logprobs for one in rollouts]),
            completion,
            kl_coef=self._method.kl_coef,
        )
        values = _padded([one.values[:-1] for one in rollouts if one.values is not None])
        found = gae(rewards, values, completion, gamma=self._method.gamma, lambda_=self._method.lambda_)
        advantages = found.advantages
        self._advantage_std = _deviation(advantages, completion)
        if self._method.whiten:
            advantages = whiten(advantages, completion)
        whole = [np.ones(len(one.ids), np.float32) for one in rollouts]
        weights = weights_of(cut) if self._method.dense in ("mask", "both") else whole
        return [
            Experience(one, weights[at], _row(advantages, one, at), _row(found.returns, one, at))
            for at, one in enumerate(rollouts)
        ]

    def _rewards(
        self, earned: EarnedRewards, cut: RunSegmentation, mean: float
    ) -> list[Float64[np.ndarray, " _response"]]:
        """What each token earns, in the units of the sequence rewards, which lose their mean."""
        if self._method.dense == "mask":
            rewards = whole_rewards(earned)
        else:
            rewards = dense_rewards(earned, cut, placing=self._method.placing)
        for of_one in rewards:
            of_one[-1] -= mean
        return rewards


def _padded(tracks: Sequence[np.ndarray]) -> Tensor:
    return pad([torch.from_numpy(track) for track in tracks])


def _row(track: Float[Tensor, "batch tokens"], one: Rollout, at: int) -> Float32[np.ndarray, " response"]:
    return track[at, : len(one.ids)].numpy()


def _deviation(values: Tensor, mask: Tensor) -> float:
    mean = masked_mean(values, mask)
    return float(masked_mean((values - mean) ** 2, mask).sqrt())
