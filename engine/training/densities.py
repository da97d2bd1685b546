"""Sample-, step-, token- and segment-wise supervision: one pipeline with four segmenters (METHOD section 3).

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from engine.rules import Clause, Hysteresis, SegmentationRule, Segmenter, Token, Whole
from engine.sources import SOURCES, SourceName

Density = Literal["sample", "step", "token", "segment"]
"""How finely a response is supervised: four segmenters of one pipeline (METHOD section 3)."""
DENSITIES: tuple[Density, ...] = ("sample", "step", "token", "segment")

SEGMENTERS: Mapping[Density, Segmenter] = {
    "sample": Whole(),
    "step": Clause(),
    "token": Token(),
    "segment": Hysteresis(),
}


def rule_of(density: Density, source: SourceName) -> SegmentationRule:
    """The rule of a density for rewards of this source; a method may want another (`Method.rule_for`).

    It is the source's own rule but for the segmenter. Steps end at punctuation and line breaks, which is what
    step-wise methods cut at [paper].
    """
    return SOURCES[source].default_rule.model_copy(update={"segmenter": SEGMENTERS[density]})
