"""The scorer: a DPO on whole responses, clipped and anchored, whose implicit reward finds wrong tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from engine.fields import shown
from engine.training.method import METHODS, Method, MethodFields, Rates
from engine.training.methods.dpo import DPO_CURVES, Dpo

if TYPE_CHECKING:
    from engine.training.loops.offline import OfflineData
    from engine.training.method_loop import MethodLoop


class Scorer(MethodFields):
    """The clipped, anchored DPO whose implicit reward finds wrong tokens; frozen then, it gives masks."""

    name: Literal["scorer"] = "scorer"
    beta: float = Field(0.02, gt=0, title="Beta")
    """Small, so that every pair stays in the straight part of the loss and keeps teaching."""
    rejected_clip: float = Field(4.0, ge=0, title="Rejected clip", json_schema_extra=shown(unit="nats"))
    """A rejected token's log-ratio counts down to minus this."""
    sft_weight: float = Field(0.05, ge=0, title="SFT coefficient")
    """Of the likelihood of chosen tokens."""

    def as_dpo(self) -> Dpo:
        """The preference loss that it learns by."""
        return Dpo(
            beta=self.beta,
            rejected_clip=self.rejected_clip,
            sft_weight=self.sft_weight,
            masked_weight=0.0,
        )


def _loop(data: OfflineData) -> MethodLoop[Any]:
    from engine.training.loops.dpo import DpoLoop

    method = data.request.method
    assert isinstance(method, Scorer)
    return DpoLoop(data, method.as_dpo())


METHODS.register(
    Method(
        name="scorer",
        title="Scorer",
        sentence="learns which tokens are wrong, and gives masks",
        fields=Scorer,
        learns_from="pair",
        rates=Rates(4e-3, 2e-6),
        offline=_loop,
        compares=True,
        curves=DPO_CURVES,
        in_recipes=False,
        densities=("sample",),
        why_densities="A scorer learns from whole responses; choose the granularity `sample`.",
    )
)
