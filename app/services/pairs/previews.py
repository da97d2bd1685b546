"""What each density of training would see of a pair, from what a scoring run stored; no model is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from app.db.maps import read_maps
from app.db.tables import Run
from app.errors import NotFound
from app.services.datasets.datasets import get_pair
from app.services.scorings.maps import MapView, cut, known_sources
from app.services.scorings.rules import base_of
from app.services.scorings.sources import chosen_source, scoring_run
from engine.rules import SegmentationRule
from engine.segmentation.statistics import RewardStatistics
from engine.sources.registry import SOURCES
from engine.training.densities import DENSITIES, Density
from engine.training.methods import METHODS
from engine.training.methods.dpo import Dpo
from engine.training.preview import (
    PLAIN,
    RjsPreview,
    SeenSide,
    dpo_preview,
    rjs_preview,
    seen_side,
)
from engine.training.preview import DpoPreview as DpoPreview
from engine.types import Side

PreviewName = Literal[Density, "shown"]
"""A density, or the rule that the page shows."""


@dataclass(frozen=True, slots=True)
class DensityPreview:
    """One density: what it keeps, the losses, and where they pull. A loss is None where it cannot be told."""

    name: PreviewName
    rule: SegmentationRule
    """By which DPO's mask is cut."""
    likelihood_rule: SegmentationRule
    """By which that of likelihood (RJS) is cut: its baseline may be another one."""
    sides: Mapping[Side, SeenSide]
    """What DPO sees."""
    likelihood: SeenSide | None
    """What likelihood sees of the chosen response."""
    counted: bool
    """Whether training takes the pair at all: False where nothing is kept on either side."""
    plain: DpoPreview | None
    """DPO without its safeguards."""
    guarded: DpoPreview | None
    """DPO with the clip and the two anchors, as trainings do it by default."""
    rjs: RjsPreview | None


@dataclass(frozen=True, slots=True)
class PairPreview:
    """What training would see of a pair."""

    pair_id: int
    run: Run
    source: str
    source_label: str
    method: Dpo
    """With the safeguards."""
    maps: list[MapView]
    """Chosen first."""
    densities: list[DensityPreview]
    """Empty where the run stored no log-probabilities of a policy."""
    missing: str | None
    """A sentence that says what cannot be told, and why; None where all can."""


def pair_preview(
    session: Session,
    pair_id: int,
    *,
    run_id: int,
    source: str | None = None,
    shown: SegmentationRule | None = None,
    method: Dpo | None = None,
) -> PairPreview:
    """The pair as training by each density would see it, with the run's policy as the trained model and the
    run's reference as its own; and (`shown`) by one more rule.

    Raises NotFound (pair, run), Invalid (source), RequestError (a rule that asks for what was not scored).
    """
    pair, run = get_pair(session, pair_id), scoring_run(session, run_id)
    if pair.dataset_id != run.dataset_id:
        raise NotFound(f"Run {run_id} did not score pair {pair_id}; choose a run of the pair's own data set.")
    name = chosen_source(run, source)
    known = next(one for one in known_sources(session, run) if one.source.name == name)
    stored = [view for view in read_maps(session, run_id, pair_id=pair_id) if name in view.map.rewards]
    method, info = method or Dpo(), SOURCES[name]
    base = base_of(session, run, name, known.statistics).rule
    rules = {
        density: (
            METHODS["dpo"].rule_for(density, info.name, base),
            METHODS["rjs"].rule_for(density, info.name, base),
        )
        for density in DENSITIES
    }
    wanted: list[tuple[PreviewName, tuple[SegmentationRule, SegmentationRule]]] = [*rules.items()]
    if shown is not None and (shown, shown) not in rules.values():
        wanted.append(("shown", (shown, shown)))
    densities = [
        _preview(which, both, stored, name, known.statistics, method)
        for which, both in wanted
        if stored and all(view.map.logprobs is not None for view in stored)
    ]
    return PairPreview(
        pair_id=pair_id,
        run=run,
        source=name,
        source_label=info.title,
        method=method,
        maps=stored,
        densities=densities,
        missing=_missing(run, stored),
    )


def _preview(
    name: PreviewName,
    rules: tuple[SegmentationRule, SegmentationRule],
    stored: list[MapView],
    source: str,
    statistics: RewardStatistics,
    method: Dpo,
) -> DensityPreview:
    sides, likelihood = (_seen(stored, source, rule, statistics) for rule in rules)
    chosen, rejected = sides.get("chosen"), sides.get("rejected")
    both = None
    if chosen is not None and rejected is not None:
        both = (chosen, rejected)
    compares = both is not None and all(side.reference_logprobs is not None for side in both)
    bare = PLAIN.model_copy(update={"beta": method.beta})
    return DensityPreview(
        name=name,
        rule=rules[0],
        likelihood_rule=rules[1],
        sides=sides,
        likelihood=likelihood.get("chosen"),
        counted=any(side.counted for side in sides.values()),
        plain=dpo_preview(*both, bare) if both and compares else None,
        guarded=dpo_preview(*both, method) if both and compares else None,
        rjs=rjs_preview(likelihood["chosen"]) if "chosen" in likelihood else None,
    )


def _seen(
    stored: list[MapView], source: str, rule: SegmentationRule, statistics: RewardStatistics
) -> dict[Side, SeenSide]:
    seen = {
        view.map.side: seen_side(view.map, cut(view.map, view.text, source, rule, statistics))
        for view in stored
    }
    return {side: one for side, one in seen.items() if one is not None}


def _missing(run: Run, stored: list[MapView]) -> str | None:
    if not stored:
        return f"Run {run.id} has not reached this pair yet."
    if any(view.map.logprobs is None for view in stored):
        return (
            f"Run {run.id} stored no log-probabilities: it scored without a policy. Score the data with a "
            "policy and its reference to see what training would make of this pair."
        )
    if any(view.map.reference_logprobs is None for view in stored):
        return (
            f"Run {run.id} has a policy but no reference, so DPO's margin cannot be told; likelihood (RJS) "
            "needs none."
        )
    if len(stored) < 2:
        only = stored[0].map.side
        return f"The pair has a {only} response only: a preference loss needs both."
    return None
