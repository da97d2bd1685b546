"""What training would see of a pair, density by density: kept tokens, losses and gradients."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from app.api.parts.common import Id, View, door
from app.dependencies import SessionDep
from app.services.pairs import previews
from app.services.pairs.previews import DensityPreview, DpoPreview, PairPreview, PreviewName
from engine.rules import SegmentationRule
from engine.sources import SourceName
from engine.training.methods.dpo import Dpo
from engine.types import Side, missing_to_null


class DpoView(View):
    """DPO's loss of this pair alone."""

    margin: float
    loss: float
    preference: float
    """The part of the loss that is made of the margin."""
    sft: float
    """Mean negative log-likelihood of kept chosen tokens, before its weight."""
    masked_drift: float
    """Mean squared log-ratio of masked tokens, before its weight."""
    pull: float
    """beta * sigmoid(-margin): the size of the preference's gradient at each kept token."""
    clipped: int
    """Kept rejected tokens below the clip: they are pulled no further."""
    gradients: dict[Side, list[float]] | None
    """d loss / d log-probability of every token; only where `gradients` was asked for."""


class RjsView(View):
    """The likelihood loss of the chosen response alone."""

    loss: float
    kept: float
    gradient: list[float] | None


class DensityView(View):
    """What training by one density would see. A loss is null where it cannot be told."""

    density: PreviewName
    rule: SegmentationRule
    likelihood_rule: SegmentationRule
    """The rule of RJS, whose baseline may be another one."""
    kept: dict[Side, float]
    """How many tokens count, or the sum of their soft weights."""
    tokens: dict[Side, int]
    counted: bool
    """Whether training takes the pair at all."""
    plain: DpoView | None
    """Without the safeguards."""
    guarded: DpoView | None
    """With clip and anchors."""
    rjs: RjsView | None
    mask: dict[Side, list[float | None]] | None
    """1 where a token counts; only where `gradients` was asked for."""


class PairPreviewView(View):
    """What training would see of a pair, with the run's policy as the trained model."""

    pair_id: int
    run_id: int
    source: str
    method: Dpo
    missing: str | None
    """What cannot be told, and why."""
    densities: list[DensityView]


router = door("pairs")


@router.get("/{pair_id}/preview")
def read_preview(
    pair_id: Id,
    session: SessionDep,
    run: Annotated[int, Query(ge=1, le=2**63 - 1, description="The scoring run.")],
    source: Annotated[SourceName | None, Query(description="Whose rewards make the masks.")] = None,
    beta: Annotated[float, Query(gt=0, le=1e6)] = 0.1,
    rejected_clip: Annotated[float, Query(ge=0, le=1e6, description="Nats.")] = 2.0,
    sft_weight: Annotated[float, Query(ge=0, le=1e6)] = 0.5,
    masked_weight: Annotated[float, Query(ge=0, le=1e6)] = 0.05,
    gradients: Annotated[bool, Query(description="Whether to send a number for every token.")] = False,
) -> PairPreviewView:
    """Margin, losses and kept tokens under sample-, step-, token- and segment-wise training, from what the
    run stored."""
    method = Dpo(beta=beta, rejected_clip=rejected_clip, sft_weight=sft_weight, masked_weight=masked_weight)
    found = previews.pair_preview(session, pair_id, run_id=run, source=source, method=method)
    return preview_view(found, gradients=gradients)


def preview_view(found: PairPreview, *, gradients: bool) -> PairPreviewView:
    """The preview as JSON."""
    return PairPreviewView(
        pair_id=found.pair_id,
        run_id=found.run.id,
        source=found.source,
        method=found.method,
        missing=found.missing,
        densities=[_density(one, gradients) for one in found.densities],
    )


def _density(one: DensityPreview, gradients: bool) -> DensityView:
    return DensityView(
        density=one.name,
        rule=one.rule,
        likelihood_rule=one.likelihood_rule,
        kept={side: seen.kept for side, seen in one.sides.items()},
        tokens={side: seen.tokens for side, seen in one.sides.items()},
        counted=one.counted,
        plain=_dpo(one.plain, gradients),
        guarded=_dpo(one.guarded, gradients),
        rjs=None
        if one.rjs is None
        else RjsView(
            loss=one.rjs.loss,
            kept=one.rjs.kept,
            gradient=one.rjs.gradient.tolist() if gradients else None,
        ),
        mask={side: missing_to_null(seen.weights.tolist()) for side, seen in one.sides.items()}
        if gradients
        else None,
    )


def _dpo(one: DpoPreview | None, gradients: bool) -> DpoView | None:
    if one is None:
        return None
    numbers = {
        name: getattr(one, name)
        for name in ("margin", "loss", "preference", "sft", "masked_drift", "pull", "clipped")
    }
    return DpoView(
        **numbers,
        gradients={side: track.tolist() for side, track in one.gradients.items()} if gradients else None,
    )
