"""Rejection sampling from the policy as it is: the best of N responses, and of it the segments that agree.

y* = argmax_i R(x, y_i); L = -sum m l / sum m [paper], with R as `rollout_segments` has it. Of equal rewards
the first response is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.training.experience import Experience, experience_sums, read_experience
from engine.training.loops.on_policy import OnPolicyLoop, PromptData
from engine.training.losses.rjs import rjs_loss
from engine.training.method_loop import PartLoss
from engine.training.rollout_segments import weights_of
from engine.training.rollouts import Rollout
from engine.training.trained_model import TrainedModel


class SampledRjsLoop(OnPolicyLoop):
    """A request of method `rjs` with `sampling`, prepared."""

    def __init__(self, data: PromptData) -> None:
        super().__init__(data)
        self._mean_reward = 0.0

    def learnt(self, rollouts: list[Rollout]) -> list[Experience]:
        """The best rollout to each prompt."""
        earned = self.segments.earned(rollouts)
        self._mean_reward = sum(one.reward for one in rollouts) / len(rollouts)
        best = best_of_each(rollouts, earned.rewards)
        kept = weights_of(self.segments.cut(best, [1] * len(best)))
        # Likelihood is the gradient of an advantage of 1.
        return [Experience(one, weights, weights * 0 + 1) for one, weights in zip(best, kept, strict=True)]

    def loss(
        self, model: TrainedModel, examples: Sequence[Experience], totals: Mapping[str, float]
    ) -> PartLoss:
        read = read_experience(model, examples)
        loss = rjs_loss(read.logprobs, read.weights, totals["kept"])
        count = float(len(examples))
        sums = experience_sums(examples)
        # Of all responses: the policy's. That of the best ones is what is learnt from.
        sums["train/chosen_reward"] = sums["train/reward"]
        sums["train/reward"] = self._mean_reward * count, count
        return PartLoss(loss, sums)


def best_of_each(rollouts: Sequence[Rollout], rewards: Sequence[float]) -> list[Rollout]:
    """The response with the highest reward to each prompt, the prompts in their order."""
    best: dict[int, int] = {}
    for at, one in enumerate(rollouts):
        if one.place not in best or rewards[at] > rewards[best[one.place]]:
            best[one.place] = at
    return [rollouts[at] for at in best.values()]
