"""DPO and what is built on its margin: the preference loss on kept tokens, with its three safeguards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from engine.fields import shown
from engine.training.method import METHODS, Curve, Method, MethodFields, Rates

if TYPE_CHECKING:
    from engine.training.loops.offline import OfflineData
    from engine.training.method_loop import MethodLoop
    from engine.training.request import TrainingRequest


class Dpo(MethodFields):
    """Preference loss on kept tokens. The three safeguards are on by default (METHOD section 8)."""

    name: Literal["dpo"] = "dpo"
    beta: float = Field(0.1, gt=0, title="Beta")
    """Scale of log-ratios: the higher, the closer the policy stays to the reference."""
    preference: Literal["sigmoid", "ipo", "hinge", "cdpo", "robust"] = Field(
        "sigmoid",
        title="Loss type",
        json_schema_extra=shown(
            words={"sigmoid": "sigmoid: DPO", "ipo": "IPO", "hinge": "hinge: SLiC", "cdpo": "cDPO"}
        ),
    )
    """Of the margin between chosen and rejected."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, title="Label smoothing")
    """Share of preferences that are taken to be the wrong way round: for cDPO and robust."""
    length_normalised: bool = Field(False, title="Length normalisation")
    """Log-ratios are means over kept tokens instead of sums."""
    rejected_clip: float | None = Field(
        2.0, ge=0, title="Rejected clip", json_schema_extra=shown(unit="nats", blank="no clip")
    )
    """A rejected token's log-ratio counts down to minus this: keeps masked training from collapsing."""
    sft_weight: float = Field(0.5, ge=0, title="SFT coefficient")
    """Of the likelihood of kept chosen tokens."""
    masked_weight: float = Field(0.05, ge=0, title="Dropped-token coefficient")
    """Of the squared log-ratio of dropped tokens: holds them where they were."""

    @model_validator(mode="after")
    def _smoothing_has_a_loss(self) -> Dpo:
        if self.label_smoothing and self.preference not in ("cdpo", "robust"):
            raise ValueError(f"`{self.preference}` has no label smoothing; choose `cdpo` or `robust`.")
        return self


def _loop(data: OfflineData) -> MethodLoop[Any]:
    from engine.training.loops.dpo import DpoLoop

    method = data.request.method
    assert isinstance(method, Dpo)
    return DpoLoop(data, method)


def _warnings(request: TrainingRequest) -> list[str]:
    """Of masked training without the safeguards that keep it from collapsing."""
    method = request.method
    assert isinstance(method, Dpo)
    if request.supervision.density == "sample":
        return []
    found = []
    safeguards = {
        "rejected_clip": method.rejected_clip is not None,
        "sft_weight": method.sft_weight > 0,
        "masked_weight": method.masked_weight > 0,
    }
    off = [f"`{name}`" for name, is_on in safeguards.items() if not is_on]
    if off:
        found.append(
            f"Masked DPO without {' and '.join(off)} can collapse: once wrong tokens of chosen responses are "
            "masked, nothing holds back those of rejected ones. Keep the defaults unless you measure success."
        )
    if method.length_normalised:
        found.append("Length normalisation does not keep masked DPO from collapsing; the clip does.")
    return found


DPO_CURVES = (
    Curve("loss", "Preference loss", {"train": "train/preference_loss"}),
    Curve("loss", "SFT loss", {"train": "train/sft_loss"}),
    Curve(
        "preference",
        "Log-ratios",
        {"chosen": "train/chosen_log_ratio", "rejected": "train/rejected_log_ratio"},
    ),
    Curve("mask", "Drift of dropped tokens", {"train": "train/masked_drift"}),
)

METHODS.register(
    Method(
        name="dpo",
        title="DPO",
        sentence="preference loss on kept tokens",
        fields=Dpo,
        learns_from="pair",
        rates=Rates(5e-4, 5e-7),
        offline=_loop,
        compares=True,
        masks=True,
        curves=DPO_CURVES,
        warnings=_warnings,
    )
)
