"""What each token adds to the value that a reward model gives a prefix: an increment."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from engine.rules import SegmentationRule
from engine.sources.registry import SOURCES, Evidence, Source


def rm_increment_rewards(values: Float32[np.ndarray, " response+1"]) -> Float32[np.ndarray, " response"]:
    """r_t = V_t - V_{t-1}, beginning with V_0 read after the prompt [ours].

    They sum to V_T - V_0 and not to V_T. NaN where either value is missing.
    """
    return np.diff(values.astype(np.float64)).astype(np.float32)


def _rewards(evidence: Evidence) -> Float32[np.ndarray, " response"]:
    assert evidence.values is not None
    return rm_increment_rewards(evidence.values)


SOURCES.register(
    Source(
        name="rm_increment",
        title="Reward model: change",
        sentence="What a token adds to the value that the reward model gives the prefix.",
        kind="increment",
        needs={"reward_model"},
        rewards=_rewards,
        identity="The rewards sum to the last value minus the value of the prompt alone.",
        cannot_show=(
            "A reward model trained at the last token says little of the tokens before it; a scorer's "
            "implicit reward, or a reward model trained on the sum of its outputs, finds wrong tokens better."
        ),
        default_rule=SegmentationRule(baseline="zero", scale="std"),
        reads_text=False,
    )
)
