"""Sample-, step-, token- and segment-wise supervision: one pipeline with four segmenters (METHOD section 3).

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.rules import Clause, Hysteresis, SegmentationRule, Segmenter, Token, Whole
from engine.sources import SOURCES, SourceName
from engine.training.request import ON_POLICY, Density, MethodName

SEGMENTERS: Mapping[Density, Segmenter] = {
    "sample": Whole(),
    "step": Clause(),
    "token": Token(),
    "segment": Hysteresis(),
}


def rule_for(density: Density, source: SourceName, method: MethodName) -> SegmentationRule:
    """The rule of a density for rewards of this source in this method, unless a request states another.

    It is the source's own rule but for the segmenter. Steps end at punctuation and line breaks, which is what
    step-wise methods cut at [paper]. Likelihood on what is kept wants implicit rewards cut
    at their median instead: it may mask a right token, and must not learn a wrong one (METHOD section 8)
    [ours]. Where segments are rewarded rather than masked, their rewards are sums, so that all of them
    together are the reward of the response.
    """
    rule = SOURCES[source].default_rule.model_copy(update={"segmenter": SEGMENTERS[density]})
    likelihood = SOURCES[source].likelihood_baseline
    if likelihood is not None and method in ("rjs", "sft"):
        rule = rule.model_copy(update={"baseline": likelihood})
    if method in ON_POLICY:
        rule = rule.model_copy(update={"aggregate": "sum"})
    return rule
