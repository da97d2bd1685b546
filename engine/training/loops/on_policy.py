"""What methods share that learn from what the policy says now: prompts, rollouts, evaluation, state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from engine.training.experience import Experience, totals_of
from engine.training.frozen import FrozenModels
from engine.training.method_loop import Shard, Sums
from engine.training.request import TrainingRequest
from engine.training.rollout_segments import RolloutSegments
from engine.training.rollouts import Exchange, Prompts, Rollout, Rollouts, across_processes
from engine.training.trained_model import TrainedModel


@dataclass(frozen=True, slots=True)
class PromptData:
    """The prompts of a training, and the models that reward what is said to them."""

    request: TrainingRequest
    """Resolved, with `sampling` and a rule. `batch_size` counts prompts."""
    prompts: Prompts
    held_out: Prompts
    frozen: FrozenModels
    model: TrainedModel
    exchange: Exchange = across_processes


class OnPolicyLoop:
    """The loop of a method on rollouts; a method's own adds `learnt` and `loss`.

    In a rollout phase responses are drawn to `batch_size` prompts; several updates may learn from them.
    """

    def __init__(self, data: PromptData, *, updates: int = 1, critic: bool = False) -> None:
        """updates: those of a rollout phase."""
        rule, source = data.request.supervision.rule, data.request.supervision.source
        sampling = data.request.method.sampled
        assert rule is not None, "the request is resolved"
        assert source is not None
        assert sampling is not None, "without sampling the responses of the data are learned from"
        self.updates_per_rollout_phase = updates
        self.has_value_head = critic
        self.sampling = sampling
        self.segments = RolloutSegments(rule, source, judged=data.frozen.reward_model is not None)
        self._rollouts = Rollouts(
            data.request,
            sampling,
            data.prompts,
            data.held_out,
            data.frozen,
            data.model,
            source,
            data.exchange,
            values=critic,
            needs_text=rule.segmenter.kind.reads_text,
        )
        self._experience: list[Experience] = []

    def learnt(self, rollouts: list[Rollout]) -> list[Experience]:
        """What is to be learned from the rollouts of a phase, which are alike in every process."""
        raise NotImplementedError

    def minibatch(self, experience: list[Experience], phase: int, update: int) -> list[Experience]:
        """What an update of a phase, from 0, learns from: all of it, unless a method chooses."""
        return experience

    def examples(self, update: int, model: TrainedModel, shard: Shard) -> list[Experience]:
        phase, within = divmod(update, self.updates_per_rollout_phase)
        if within == 0:
            self._experience = self.learnt(self._rollouts.draw(phase, model, shard))
        return shard.take(self.minibatch(self._experience, phase, within))

    def totals(self, examples: Sequence[Experience]) -> dict[str, float]:
        return totals_of(examples)

    def evaluate(self, model: TrainedModel, shard: Shard) -> Sums:
        return self._rollouts.evaluate(model, shard)

    def state(self) -> dict[str, object]:
        return {"segments": self.segments.state()}

    def restore(self, state: Mapping[str, object]) -> None:
        self.segments.restore(cast(Mapping[str, Any], state["segments"]))
