"""Sample-, step-, token- and segment-wise supervision: one pipeline with four segmenters (METHOD section 3).

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from engine.rules import SegmentationRule
from engine.segmentation.segmenter import SegmenterFields
from engine.segmentation.segmenters.clause import Clause
from engine.segmentation.segmenters.hysteresis import Hysteresis
from engine.segmentation.segmenters.token import Token
from engine.segmentation.segmenters.whole import Whole
from engine.sources import SOURCES, SourceName

Density = Literal["sample", "step", "token", "segment"]
"""How finely a response is supervised: four segmenters of one pipeline (METHOD section 3)."""
DENSITIES: tuple[Density, ...] = ("sample", "step", "token", "segment")

SEGMENTER_OF: Mapping[Density, SegmenterFields] = {
    "sample": Whole(),
    "step": Clause(),
    "token": Token(),
    "segment": Hysteresis(),
}


def rule_of(density: Density, source: SourceName, base: SegmentationRule | None = None) -> SegmentationRule:
    """The rule of a density for rewards of this source; a method may want another (`Method.rule_for`).

    It is `base`, the rule that was made from the rewards (None: the source's own), but for the segmenter.
    Steps end at punctuation and line breaks, which is what step-wise methods cut at [paper].
    """
    base = base or SOURCES[source].default_rule
    segmenter = SEGMENTER_OF[density]
    if isinstance(segmenter, type(base.segmenter)):
        segmenter = base.segmenter  # With the threshold that was made for these rewards.
    return base.model_copy(update={"segmenter": segmenter})
