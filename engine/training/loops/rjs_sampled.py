"""Rejection sampling from the policy as it is: the best of N responses, and of it the segments that agree.

y* = argmax_i R(x, y_i); L = -sum m l / sum m [paper], with R as `rollout_segments` has it. Of equal rewards
the first response is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from engine.rules import SegmentationRule
from engine.sources import SourceName
from engine.training.experience import Experience, experience_sums, read_experience, totals_of
from engine.training.frozen import FrozenModels
from engine.training.losses.rjs import rjs_loss
from engine.training.method_loop import PartLoss, Shard, Sums
from engine.training.request import Rjs, TrainingRequest
from engine.training.rollout_segments import RolloutSegments, needs_text, weights_of
from engine.training.rollouts import Exchange, Prompts, Rollout, Rollouts, across_processes
from engine.training.trained_model import TrainedModel


class SampledRjsLoop:
    """A request of method `rjs` with `sampling`, prepared. `batch_size` counts prompts."""

    has_value_head = False
    updates_per_gathering = 1

    def __init__(
        self,
        request: TrainingRequest,
        prompts: Prompts,
        held_out: Prompts,
        frozen: FrozenModels,
        model: TrainedModel,
        rule: SegmentationRule,
        source: SourceName,
        exchange: Exchange = across_processes,
    ) -> None:
        assert isinstance(request.method, Rjs)
        assert request.method.sampling is not None, "without sampling the chosen responses are learnt from"
        self._segments = RolloutSegments(rule, source, judged=frozen.reward_model is not None)
        self._rollouts = Rollouts(
            request,
            request.method.sampling,
            prompts,
            held_out,
            frozen,
            model,
            source,
            exchange,
            needs_text=needs_text(rule),
        )
        self._mean_reward = 0.0

    def examples(self, update: int, model: TrainedModel, shard: Shard) -> list[Experience]:
        rollouts = self._rollouts.gather(update, model, shard)
        earned = self._segments.earned(rollouts)
        self._mean_reward = sum(one.reward for one in rollouts) / len(rollouts)
        best = best_of_each(rollouts, earned.rewards)
        kept = weights_of(self._segments.cut(best, [1] * len(best)))
        # Likelihood is the gradient of an advantage of 1.
        experience = [
            Experience(one, weights, weights * 0 + 1) for one, weights in zip(best, kept, strict=True)
        ]
        return shard.take(experience)

    def totals(self, examples: Sequence[Experience]) -> dict[str, float]:
        return totals_of(examples)

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

    def evaluate(self, model: TrainedModel, shard: Shard) -> Sums:
        return self._rollouts.look(model, shard)

    def state(self) -> dict[str, object]:
        return {"segments": self._segments.state()}

    def restore(self, state: Mapping[str, object]) -> None:
        self._segments.restore(cast(Mapping[str, Any], state["segments"]))


def best_of_each(rollouts: Sequence[Rollout], rewards: Sequence[float]) -> list[Rollout]:
    """The response with the highest reward to each prompt, the prompts in their order."""
    best: dict[int, int] = {}
    for at, one in enumerate(rollouts):
        if one.place not in best or rewards[at] > rewards[best[one.place]]:
            best[one.place] = at
    return [rollouts[at] for at in best.values()]
