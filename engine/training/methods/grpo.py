"""GRPO: advantages relative to the group of responses to one prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from engine.errors import RequestError
from engine.fields import shown
from engine.training.method import METHODS, Method, MethodFields, Rates, Sampling

if TYPE_CHECKING:
    from engine.training.loops.on_policy import PromptData
    from engine.training.method_loop import MethodLoop
    from engine.training.request import TrainingRequest


class GroupFields(MethodFields):
    """What methods share that compare a response with others to the same prompt."""

    sampling: Sampling = Field(Sampling(), title="Sampling")
    """How responses are drawn from the policy."""
    updates: int = Field(1, ge=1, title="Updates per rollout batch")
    """Steps that are made of each batch of rollouts."""
    clip: float = Field(0.2, gt=0, title="Clip range")
    """How far the probability ratio of a token may leave 1 before its gradient stops."""
    kl_coef: float = Field(0.2, ge=0, title="KL coefficient")
    """Of the k3 estimate, in the loss. With the usual 0.04 a policy finds what a scorer likes by mistake: in
    the lab within 20 updates."""
    form: Literal["shaping", "mask"] = Field(
        "shaping",
        title="Granularity enters as",
        json_schema_extra=shown(
            words={
                "shaping": "shaping: added to the advantage",
                "mask": "mask: the advantage on agreeing segments only",
            }
        ),
    )
    """How token rewards u enter: A_i + alpha (u_t - mean_t u), or A_i on agreeing segments only."""
    alpha: float = Field(1.0, ge=0, title="Shaping coefficient")
    """Alpha of the shaping form, in standard deviations of u over the batch."""


class Grpo(GroupFields):
    """Advantages relative to the group of responses to one prompt (arXiv 2402.03300)."""

    name: Literal["grpo"] = "grpo"
    sampling: Sampling = Field(Sampling(responses=8), title="Sampling")
    """How responses are drawn from the policy."""
    scale: Literal["std", "none"] = Field(
        "std",
        title="Advantage scaling",
        json_schema_extra=shown(words={"std": "by the group's standard deviation", "none": "none"}),
    )
    """What a response's reward less the group's mean is divided by."""


def check_group(request: TrainingRequest) -> None:
    """Raises RequestError where a response has none to be compared with."""
    sampling = request.method.sampled
    if sampling is not None and sampling.responses < 2:
        raise RequestError(
            f"{request.method.declared.title} compares a response with others to the same prompt; sample at "
            "least two.",
            field="method.sampling.responses",
        )


def _loop(data: PromptData) -> MethodLoop[Any]:
    from engine.training.advantages import grpo_advantages
    from engine.training.loops.group import GroupLoop

    method = data.request.method
    assert isinstance(method, Grpo)
    return GroupLoop(data, method, lambda rewards, _std: grpo_advantages(rewards, scale=method.scale))


METHODS.register(
    Method(
        name="grpo",
        title="GRPO",
        sentence="advantages relative to a group of rollouts",
        fields=Grpo,
        learns_from="prompt",
        rates=Rates(1e-3, 1e-6),
        on_policy=_loop,
        aggregate="sum",
        check=check_group,
    )
)
