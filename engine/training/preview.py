"""What training would see of one pair: margin, losses and gradients, from log-probabilities that are stored.

This is `losses.dpo.dpo_loss` (its sigmoid preference) and `losses.rjs.rjs_loss` for a batch of one pair, with
their gradients written out, in NumPy: the web process may ask without loading torch. Tests hold it against
torch's own. With x = margin = beta * (D_chosen - D_rejected), the gradients with respect to logprobs are

    chosen, kept       -beta * sigmoid(-x)  - sft_weight / kept chosen tokens
    rejected, kept     +beta * sigmoid(-x),  0 where log_ratio < -rejected_clip
    dropped            2 * masked_weight * log_ratio / dropped tokens of both sides

so that plain DPO (no clip, both weights 0) leaves a dropped token exactly 0. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64

from engine.training.methods.dpo import Dpo
from engine.types import RewardMap, Segmentation, Side

PLAIN = Dpo(rejected_clip=None, sft_weight=0.0, masked_weight=0.0)
"""DPO without its safeguards."""


@dataclass(frozen=True, slots=True)
class SeenSide:
    """One response as a loss sees it. Arrays have one entry a response token, EOS included."""

    logprobs: Float[np.ndarray, " response"]
    """Nats, of the policy. A token that does not count may hold anything, NaN included."""
    reference_logprobs: Float[np.ndarray, " response"] | None
    """Nats; None where no reference was read, which DPO cannot do without."""
    weights: Float[np.ndarray, " response"]
    """1 where a token counts, 0 where it is dropped; or soft weights."""
    completion: Bool[np.ndarray, " response"]
    """False only for a first token that nothing precedes: no loss knows it."""
    counted: bool = True
    """Whether the response takes part in the denominators (METHOD 3.6)."""

    @property
    def kept(self) -> float:
        """How many tokens count, or the sum of their weights."""
        return float(self.weights.sum())

    @property
    def tokens(self) -> int:
        """How many tokens there are to count."""
        return int(self.completion.sum())


@dataclass(frozen=True, slots=True)
class DpoPreview:
    """DPO's loss of this pair alone, and where it pulls."""

    margin: float
    """beta * (D_chosen - D_rejected), of the tokens that count."""
    loss: float
    """0 where the pair is skipped."""
    preference: float
    """The part of the loss that is made of the margin."""
    sft: float
    """Mean negative log-likelihood of kept chosen tokens, before its weight."""
    masked_drift: float
    """Mean squared log-ratio of dropped tokens, before its weight."""
    pull: float
    """beta * sigmoid(-margin): how hard the preference pulls at each kept token, up if chosen, else down."""
    clipped: int
    """Kept rejected tokens below the clip, which are pulled no further."""
    chosen_gradient: float | None
    """d loss / d logprob of every kept chosen token, in hard masks; None where the loss pulls at none."""
    rejected_gradient: float | None
    """d loss / d logprob of every kept rejected token above the clip, likewise."""
    gradients: Mapping[Side, Float64[np.ndarray, " response"]]
    """d loss / d logprob of every token; training moves each logprob against it."""


@dataclass(frozen=True, slots=True)
class RjsPreview:
    """The likelihood loss of the chosen response alone, and where it pulls."""

    loss: float
    kept: float
    gradient: Float64[np.ndarray, " response"]


def seen_side(one: RewardMap, cut: Segmentation) -> SeenSide | None:
    """A stored response under a mask, as training takes it; None where its log-probabilities are missing."""
    if one.logprobs is None:
        return None
    completion = np.ones(one.tokens, dtype=np.bool_)
    completion[:1] = ~np.isnan(one.logprobs[:1])  # Nothing precedes the first token of all.
    return SeenSide(
        logprobs=one.logprobs.astype(np.float64),
        reference_logprobs=None
        if one.reference_logprobs is None
        else one.reference_logprobs.astype(np.float64),
        weights=np.where(completion, cut.weights, 0.0).astype(np.float64),
        completion=completion,
        counted=cut.counted,
    )


def dpo_preview(chosen: SeenSide, rejected: SeenSide, method: Dpo) -> DpoPreview:
    """The preference loss of this pair, by the numbers of `method`. Raises ValueError for another preference
    than `sigmoid`, for length normalisation, and where a reference is missing."""
    if method.preference != "sigmoid" or method.length_normalised:
        raise ValueError("Only the sigmoid preference on sums is previewed.")
    ratios = {"chosen": _log_ratios(chosen), "rejected": _log_ratios(rejected)}
    floor = -math.inf if method.rejected_clip is None else -method.rejected_clip
    above = ratios["rejected"] >= floor
    difference = _sum(ratios["chosen"], chosen.weights) - _sum(
        np.maximum(ratios["rejected"], floor), rejected.weights
    )
    margin = method.beta * difference
    # A pair of which one side counts is counted; one that is skipped leaves every sum and denominator.
    counts = float(chosen.counted or rejected.counted)
    pull = method.beta * _sigmoid(-margin)
    dropped = {"chosen": _dropped(chosen), "rejected": _dropped(rejected)}
    dropped_tokens = max(float(dropped["chosen"].sum() + dropped["rejected"].sum()), _TINY)
    kept_chosen = chosen.kept or 1.0
    drift = counts * sum(_sum(ratios[side] ** 2, dropped[side]) for side in ratios) / dropped_tokens
    sft = counts * -_sum(chosen.logprobs, chosen.weights) / kept_chosen
    preference = counts * float(np.logaddexp(0.0, -margin))

    def anchor(side: Side) -> Float64[np.ndarray, " response"]:
        return 2 * method.masked_weight * _weighted(ratios[side], dropped[side]) / dropped_tokens

    gradients: dict[Side, Float64[np.ndarray, " response"]] = {
        "chosen": counts * (-chosen.weights * (pull + method.sft_weight / kept_chosen) + anchor("chosen")),
        "rejected": counts * (rejected.weights * pull * above + anchor("rejected")),
    }
    return DpoPreview(
        margin=margin,
        loss=preference + method.sft_weight * sft + method.masked_weight * drift,
        preference=preference,
        sft=sft,
        masked_drift=drift if method.masked_weight else 0.0,
        pull=counts * pull,
        clipped=int(((rejected.weights > 0) & ~above).sum()),
        chosen_gradient=-(pull + method.sft_weight / kept_chosen) if counts and chosen.kept else None,
        rejected_gradient=pull if counts and bool(((rejected.weights > 0) & above).any()) else None,
        gradients=gradients,
    )


def dpo_pushes(
    chosen: SeenSide, rejected: SeenSide, method: Dpo
) -> dict[Side, Float64[np.ndarray, " response"]]:
    """Where a step of DPO would move the log-probability of every token: -d loss / d logprob. Raises what
    `dpo_preview` raises."""
    return {side: -gradient for side, gradient in dpo_preview(chosen, rejected, method).gradients.items()}


def rjs_preview(chosen: SeenSide) -> RjsPreview:
    """The likelihood loss of this response; 0 where nothing counts."""
    kept = chosen.kept or 1.0
    return RjsPreview(
        loss=-_sum(chosen.logprobs, chosen.weights) / kept,
        kept=chosen.kept,
        gradient=-chosen.weights / kept,
    )


_TINY = float(np.finfo(np.float64).tiny)
"""Stands for a denominator of nothing, over which nothing is divided."""


def _log_ratios(side: SeenSide) -> Float64[np.ndarray, " response"]:
    if side.reference_logprobs is None:
        raise ValueError("DPO needs the log-probabilities of a reference.")
    return np.asarray(side.logprobs - side.reference_logprobs, dtype=np.float64)


def _dropped(side: SeenSide) -> Float64[np.ndarray, " response"]:
    """How much of each token of the completion is dropped."""
    return np.where(side.completion, 1.0 - side.weights, 0.0)


def _weighted(values: np.ndarray, weights: np.ndarray) -> Float64[np.ndarray, " response"]:
    """weights * values, and exactly 0 where nothing counts, whatever is there."""
    return np.where(weights > 0, np.where(weights > 0, values, 0.0) * weights, 0.0)


def _sum(values: np.ndarray, weights: np.ndarray) -> float:
    return float(_weighted(values, weights).sum())


def _sigmoid(value: float) -> float:
    return float(np.exp(-np.logaddexp(0.0, -value)))
