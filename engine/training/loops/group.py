"""Advantages against the other responses to the same prompt, made dense by shaping or a mask.

Departures:

1. The loss is a mean over the tokens of the batch, not of each response first: no token counts more for
   standing in a short response.
2. In the mask form the tokens that count are the loss's denominator, as in PPO's surrogate: sum(m ...) /
   sum(m). Masking the advantages alone would divide by all tokens (see `masked_advantages`). A response
   whose advantage is 0 keeps nothing, as it says nothing. [ours]
3. In the shaping form u is the mean increment of a token's segment, and alpha counts in standard deviations
   of u - mean_t u over the batch. [ours]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from engine.training.advantages import centred, shaped_advantages
from engine.training.experience import Experience, experience_sums, pad, read_experience
from engine.training.loops.on_policy import OnPolicyLoop, PromptData
from engine.training.losses.ppo import kl_loss, surrogate_loss
from engine.training.masked import masked_mean
from engine.training.method_loop import PartLoss, Sums
from engine.training.methods.grpo import GroupFields
from engine.training.rollout_segments import segment_means, weights_of
from engine.training.rollouts import Rollout
from engine.training.trained_model import TrainedModel

ROUNDING = 1e-5
"""Of a float32 number, what sums over a response may be off by."""


GroupAdvantages = Callable[[Float[Tensor, "groups responses"], float], Float[Tensor, "groups responses"]]
"""From rewards of responses, and the standard deviation of all rewards so far, to advantages."""


class GroupLoop(OnPolicyLoop):
    """A method that compares the responses to a prompt with each other, prepared."""

    def __init__(self, data: PromptData, method: GroupFields, advantages: GroupAdvantages) -> None:
        super().__init__(data, updates=method.updates)
        self._method = method
        self._advantages = advantages
        self._advantage_std = 0.0

    def loss(
        self, model: TrainedModel, examples: Sequence[Experience], totals: Mapping[str, float]
    ) -> PartLoss:
        read = read_experience(model, examples)
        # min(ratio A, clipped ratio A) is linear in A > 0: soft weights may stand with the advantages.
        surrogate = surrogate_loss(
            read.logprobs,
            read.old_logprobs,
            read.advantages * read.weights,
            read.weights > 0,
            clip=self._method.clip,
            total=totals["kept"],
        )
        kl = kl_loss(read.logprobs, read.reference_logprobs, read.completion, total=totals["tokens"])
        # The parts of a batch share its totals, so that theirs add up to the batch's means.
        count = float(len(examples))
        sums: Sums = {
            "train/clipped": (float(surrogate.clipped), 0.0),
            "train/kl_to_old": (float(surrogate.kl_to_old), 0.0),
            "train/advantage_std": (self._advantage_std * count, count),
        }
        return PartLoss(surrogate.loss + self._method.kl_coef * kl, sums | experience_sums(examples))

    def learnt(self, rollouts: list[Rollout]) -> list[Experience]:
        """The rollouts with their advantages."""
        earned = self.segments.earned(rollouts)
        groups = torch.tensor(earned.rewards, dtype=torch.float64)
        groups = groups.reshape(-1, self.sampling.responses)
        of_responses = self._advantages(groups, self.segments.sequence_rewards.std).flatten().float()
        cut = self.segments.cut(rollouts, of_responses.sign().int().tolist())
        completion = pad([torch.ones(len(one.ids), dtype=torch.bool) for one in rollouts])
        weights = [np.ones(len(one.ids), np.float32) for one in rollouts]
        if self._method.form == "mask":
            weights = weights_of(cut)
            advantages = of_responses[:, None] * completion
        else:
            u = pad([torch.from_numpy(track.astype(np.float32)) for track in segment_means(earned, cut)])
            advantages = _shaped(of_responses, u, completion, self._method.alpha)
        self._advantage_std = float(of_responses.std(unbiased=False))
        return [
            Experience(one, weights[at], advantages[at, : len(one.ids)].numpy())
            for at, one in enumerate(rollouts)
        ]


def _shaped(
    advantages: Float[Tensor, " batch"],
    u: Float[Tensor, "batch tokens"],
    completion: Bool[Tensor, "batch tokens"],
    alpha: float,
) -> Float[Tensor, "batch tokens"]:
    """The shaping form with u in standard deviations of its difference from the mean of its response.

    Where responses are not cut, u differs from its mean by rounding alone: that is 0, not a deviation.
    """
    deviation = masked_mean(centred(u, completion) ** 2, completion).sqrt()
    if deviation <= ROUNDING * u.abs().max():
        u, deviation = torch.zeros_like(u), torch.ones_like(deviation)
    return shaped_advantages(advantages, u / deviation, completion, alpha=alpha)
