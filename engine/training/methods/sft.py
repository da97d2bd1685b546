"""SFT: the likelihood of the chosen responses, every token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from engine.training.method import METHODS, Curve, Method, MethodFields, Rates

if TYPE_CHECKING:
    from engine.training.loops.offline import OfflineData
    from engine.training.method_loop import MethodLoop


class Sft(MethodFields):
    """Likelihood of the chosen responses, every token."""

    name: Literal["sft"] = "sft"


def likelihood_loop(data: OfflineData) -> MethodLoop[Any]:
    """Likelihood of the chosen responses, all tokens or those that the mask keeps."""
    from engine.training.loops.likelihood import LikelihoodLoop

    return LikelihoodLoop(data)


LIKELIHOOD_CURVES = (Curve("loss", "Negative log-likelihood", {"train": "train/nll"}),)

METHODS.register(
    Method(
        name="sft",
        title="SFT",
        sentence="likelihood of every chosen token",
        fields=Sft,
        learns_from="chosen",
        rates=Rates(1e-3, 1e-5),
        best_by="held_out/loss",
        offline=likelihood_loop,
        densities=("sample",),
        why_densities="`sft` counts every token of the chosen responses; choose `rjs` to mask some.",
        likelihood=True,
        curves=LIKELIHOOD_CURVES,
    )
)
