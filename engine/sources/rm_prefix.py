"""The value that a reward model gives every prefix of a response: a level."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from engine.sources.registry import SOURCES, Evidence, Source, last


def rm_prefix_rewards(values: Float32[np.ndarray, " response+1"]) -> Float32[np.ndarray, " response"]:
    """r_t = V_t, the scalar head read after y_t [sibling]; the last one is the reward of the sequence.

    `values` begin with V_0, read after the prompt, of which no token is told.
    """
    return values[1:].astype(np.float32)


def _rewards(evidence: Evidence) -> Float32[np.ndarray, " response"]:
    assert evidence.values is not None
    return rm_prefix_rewards(evidence.values)


SOURCES.register(
    Source(
        name="rm_prefix",
        title="Reward model: value",
        sentence="The scalar head of the reward model, read after every token.",
        kind="level",
        needs={"reward_model"},
        rewards=_rewards,
        identity="The last reward is the reward of the sequence.",
        total=last,
        reads_text=False,
        is_default=False,  # Of the two readings of a reward model the increments say what a token adds.
    )
)
