"""Reward models from preferences: Bradley-Terry on what a scalar head gives a response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from engine.errors import RequestError
from engine.fields import shown
from engine.training.method import METHODS, Curve, Method, MethodFields, Rates

if TYPE_CHECKING:
    from engine.training.loops.offline import OfflineData
    from engine.training.method_loop import MethodLoop
    from engine.training.request import TrainingRequest


class RewardModel(MethodFields):
    """Bradley-Terry on the last token, on the sum of token outputs, or on the mean of segment ends."""

    name: Literal["reward_model"] = "reward_model"
    reading: Literal["last", "sum", "segment"] = Field(
        "last",
        title="Reward pooling",
        json_schema_extra=shown(
            words={
                "last": "the last token",
                "sum": "the sum of all tokens",
                "segment": "the mean of segment ends",
            }
        ),
    )
    """Which outputs of the head are a response's reward."""
    centre: float = Field(0.01, ge=0, title="Centring coefficient")
    """Of the squared mean output over a pair, which gives the rewards a zero."""

    @property
    def pooling(self) -> Literal["last", "sum", "segment"]:
        """How outputs of tokens become the reward of a response; requests call it `reading`."""
        return self.reading


def _loop(data: OfflineData) -> MethodLoop[Any]:
    from engine.training.loops.reward_model import RewardModelLoop

    method = data.request.method
    assert isinstance(method, RewardModel)
    return RewardModelLoop(data, method)


def _check(request: TrainingRequest) -> None:
    method = request.method
    assert isinstance(method, RewardModel)
    if request.supervision.density != "sample" and method.pooling != "segment":
        raise RequestError(
            f"A reward that is pooled by `{method.pooling}` knows no segments; choose the pooling `segment`, "
            "or the granularity `sample`.",
            field="method.reading",
        )


METHODS.register(
    Method(
        name="reward_model",
        title="Reward model",
        sentence="Bradley-Terry on pairs",
        fields=RewardModel,
        learns_from="pair",
        rates=Rates(2e-3, 5e-6),
        offline=_loop,
        trains="sequence_classifier",
        in_recipes=False,
        cuts_held_out=True,
        curves=(Curve("preference", "Mean reward", {"train": "train/mean_value"}),),
        check=_check,
    )
)
