"""Rejection sampling: the likelihood of the kept tokens of the best response, of the data or sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from engine.fields import shown
from engine.training.method import METHODS, Method, MethodFields, Rates, Sampling
from engine.training.methods.sft import LIKELIHOOD_CURVES, likelihood_loop

if TYPE_CHECKING:
    from engine.training.loops.on_policy import PromptData
    from engine.training.method_loop import MethodLoop


class Rjs(MethodFields):
    """Rejection sampling: likelihood of the kept tokens of the best response [paper].

    The best of sampled ones by the sequence reward, or, without `sampling`, the chosen one of each pair.
    """

    name: Literal["rjs"] = "rjs"
    sampling: Sampling | None = Field(
        None, title="Sample responses", json_schema_extra=shown(blank="the chosen ones of the data")
    )
    """And keep the best by the reward model; else the chosen ones of the data are learned from."""


def _best_of_sampled(data: PromptData) -> MethodLoop[Any]:
    from engine.training.loops.rjs_sampled import SampledRjsLoop

    return SampledRjsLoop(data)


METHODS.register(
    Method(
        name="rjs",
        title="RJS",
        sentence="rejection sampling, likelihood of the best response's kept tokens",
        fields=Rjs,
        learns_from="chosen",
        rates=Rates(1e-3, 1e-5),
        best_by="held_out/loss",
        offline=likelihood_loop,
        on_policy=_best_of_sampled,
        masks=True,
        likelihood=True,
        curves=LIKELIHOOD_CURVES,
    )
)
