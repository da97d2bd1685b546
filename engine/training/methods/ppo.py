"""PPO: rollouts, GAE over dense rewards, a critic, the clipped surrogate on the mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from engine.errors import RequestError
from engine.training.method import METHODS, Method, MethodFields, Rates, Sampling

if TYPE_CHECKING:
    from engine.training.loops.on_policy import PromptData
    from engine.training.method_loop import MethodLoop
    from engine.training.request import TrainingRequest


class Ppo(MethodFields):
    """Rollouts, GAE over dense rewards, a critic, the clipped surrogate on the mask."""

    name: Literal["ppo"] = "ppo"
    sampling: Sampling = Sampling()
    epochs: int = Field(2, ge=1)
    """Passes over each batch of rollouts."""
    minibatches: int = Field(2, ge=1)
    """Updates a pass."""
    clip: float = Field(0.2, gt=0)
    value_clip: float | None = Field(0.2, gt=0)
    value_weight: float = Field(0.5, ge=0)
    kl_coef: float = Field(0.05, ge=0)
    """Of the k1 estimate that is taken from every token's reward."""
    gamma: float = Field(1.0, gt=0, le=1)
    lambda_: float = Field(0.95, ge=0, le=1)
    whiten: bool = True
    dense: Literal["reward", "mask", "both"] = "reward"
    """Where the density enters: in r_t, in the surrogate's mask, or in both."""
    placing: Literal["ends", "spread"] = "ends"
    """A segment's reward stands at its last token, or evenly on its tokens."""


def _loop(data: PromptData) -> MethodLoop[Any]:
    from engine.training.loops.ppo import PpoLoop

    return PpoLoop(data)


def _check(request: TrainingRequest) -> None:
    method = request.method
    assert isinstance(method, Ppo)
    rollouts = request.optimisation.batch_size * method.sampling.responses
    if rollouts < method.minibatches:
        raise RequestError(
            f"{rollouts} rollouts cannot be cut into {method.minibatches} minibatches; take a larger "
            "`batch_size` or fewer `minibatches`."
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
        check=_check,
    )
)
