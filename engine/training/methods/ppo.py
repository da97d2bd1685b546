"""PPO: rollouts, GAE over dense rewards, a critic, the clipped surrogate on the mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from engine.errors import RequestError
from engine.fields import shown
from engine.training.method import METHODS, Curve, Method, MethodFields, Rates, Sampling

if TYPE_CHECKING:
    from engine.training.loops.on_policy import PromptData
    from engine.training.method_loop import MethodLoop
    from engine.training.request import TrainingRequest


class Ppo(MethodFields):
    """Rollouts, GAE over dense rewards, a critic, the clipped surrogate on the mask."""

    name: Literal["ppo"] = "ppo"
    sampling: Sampling = Field(Sampling(), title="Sampling")
    """How responses are drawn from the policy."""
    epochs: int = Field(2, ge=1, title="PPO epochs")
    """How often each batch of rollouts is learned from."""
    minibatches: int = Field(2, ge=1, title="Minibatches")
    """Updates in each PPO epoch."""
    clip: float = Field(0.2, gt=0, title="Clip range")
    """How far the probability ratio of a token may leave 1 before its gradient stops."""
    value_clip: float | None = Field(
        0.2, gt=0, title="Value clip range", json_schema_extra=shown(blank="no clip")
    )
    """How far the critic may leave its values of the rollouts in one update."""
    value_weight: float = Field(0.5, ge=0, title="Value coefficient")
    """Of the critic's loss."""
    kl_coef: float = Field(0.05, ge=0, title="KL coefficient")
    """Of the k1 estimate that is taken from every token's reward."""
    gamma: float = Field(1.0, gt=0, le=1, title="Gamma")
    """Discount of later rewards."""
    lambda_: float = Field(0.95, ge=0, le=1, title="GAE lambda")
    """Trades bias (0: the critic alone) for variance (1: rewards alone)."""
    whiten: bool = Field(True, title="Whiten advantages")
    """To mean 0 and deviation 1 over a batch."""
    dense: Literal["reward", "mask", "both"] = Field(
        "reward",
        title="Granularity enters in",
        json_schema_extra=shown(
            words={
                "reward": "the reward of each token",
                "mask": "the mask of the surrogate",
                "both": "both of them",
            }
        ),
    )
    """Where token rewards enter."""
    placing: Literal["ends", "spread"] = Field(
        "ends",
        title="Segment reward placement",
        json_schema_extra=shown(words={"ends": "at its last token", "spread": "evenly on its tokens"}),
    )
    """Where the reward of a segment stands."""


def _loop(data: PromptData) -> MethodLoop[Any]:
    from engine.training.loops.ppo import PpoLoop

    return PpoLoop(data)


def _check(request: TrainingRequest) -> None:
    method = request.method
    assert isinstance(method, Ppo)
    rollouts = request.optimisation.batch_size * method.sampling.responses
    if rollouts < method.minibatches:
        raise RequestError(
            f"{rollouts} rollouts cannot be cut into {method.minibatches} minibatches; take a larger batch "
            "or fewer minibatches.",
            field="optimisation.batch_size",
        )


METHODS.register(
    Method(
        name="ppo",
        title="PPO",
        sentence="rollouts with dense rewards, a critic",
        fields=Ppo,
        learns_from="prompt",
        rates=Rates(1e-3, 1e-6),
        on_policy=_loop,
        critic=True,
        # Segments are rewarded: the rewards of all of them together are that of the response.
        aggregate="sum",
        curves=(Curve("loss", "Value loss", {"train": "train/value_loss"}),),
        check=_check,
    )
)
