"""A training method in one file: SimPO (arXiv 2405.14734), a preference loss that needs no reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from engine.training.method import METHODS, Method, MethodFields, Rates

if TYPE_CHECKING:
    from engine.training.loops.offline import OfflineData
    from engine.training.losses.dpo import PairLosses, SideLogprobs
    from engine.training.method_loop import MethodLoop


class ToySimpo(MethodFields):
    """Preference loss on the mean log-probability of kept tokens, without a reference."""

    name: Literal["toy_simpo"] = "toy_simpo"
    beta: float = Field(2.0, gt=0, title="Beta")
    """How strongly preferences pull."""
    target: float = Field(0.5, ge=0, title="Target margin")
    """The margin from which on a pair pulls little."""


def simpo_losses(chosen: SideLogprobs, rejected: SideLogprobs, *, beta: float, target: float) -> PairLosses:
    """loss = -log sigmoid(beta * (mean chosen logprob - mean rejected logprob) - target), eq. 6."""
    from torch.nn.functional import logsigmoid

    from engine.training.losses.dpo import PairLosses
    from engine.training.masked import masked_sum

    means = [
        masked_sum(side.policy_logprobs, side.mask) / side.kept().clamp(min=1) for side in (chosen, rejected)
    ]
    margins = beta * (means[0] - means[1])
    return PairLosses(-logsigmoid(margins - target), margins.detach())


def _loop(data: OfflineData) -> MethodLoop[Any]:
    from engine.training.loops.pairs import PairLoop

    method = data.request.method
    assert isinstance(method, ToySimpo)
    return PairLoop(data, lambda *sides: simpo_losses(*sides, beta=method.beta, target=method.target))


METHODS.register(
    Method(
        name="toy_simpo",
        title="Toy SimPO",
        sentence="preference loss without a reference",
        fields=ToySimpo,
        learns_from="pair",
        rates=Rates(small=5e-4, large=5e-7),
        offline=_loop,
        masks=True,
    )
)
