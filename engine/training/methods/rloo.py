"""RLOO: advantages against the mean of the other responses to the same prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from engine.training.method import METHODS, Method, Rates
from engine.training.methods.grpo import GroupFields, check_group

if TYPE_CHECKING:
    from engine.training.loops.on_policy import PromptData
    from engine.training.method_loop import MethodLoop


class Rloo(GroupFields):
    """Advantages against the mean of the other responses of the group (arXiv 2402.14740)."""

    name: Literal["rloo"] = "rloo"


def _loop(data: PromptData) -> MethodLoop[Any]:
    from engine.training.advantages import rloo_advantages
    from engine.training.loops.group import GroupLoop

    method = data.request.method
    assert isinstance(method, Rloo)
    # In standard deviations of all rewards so far, so that one learning rate, KL coefficient and alpha do for
    # rewards of any size [ours].
    return GroupLoop(data, method, lambda rewards, std: rloo_advantages(rewards) / (std or 1.0))


METHODS.register(
    Method(
        name="rloo",
        title="RLOO",
        sentence="advantages against the other rollouts",
        fields=Rloo,
        learns_from="prompt",
        rates=Rates(1e-3, 1e-6),
        on_policy=_loop,
        aggregate="sum",
        check=check_group,
    )
)
