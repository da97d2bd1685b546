"""How little the policy expects each token: the floor that every other source has to beat."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from engine.rules import SegmentationRule
from engine.sources.registry import SOURCES, Evidence, Source


def _rewards(evidence: Evidence) -> Float32[np.ndarray, " response"]:
    assert evidence.policy_logprobs is not None
    return evidence.policy_logprobs.astype(np.float32)


SOURCES.register(
    Source(
        name="surprisal",
        title="Surprisal",
        sentence="Minus the surprisal: the policy's own log-probability of each token, in nats.",
        kind="increment",
        needs={"policy"},
        rewards=_rewards,
        identity="The rewards sum to the log-probability of the response.",
        cannot_show=(
            "Surprisal knows no preference: it blames what is rare. It is the floor that other sources have "
            "to beat, and no reward."
        ),
        default_rule=SegmentationRule(baseline="batch_mean", scale="std"),
        is_centred=True,
        reads_text=False,
        is_default=False,  # The floor is measured wherever a policy scored; a track of its own is asked for.
    )
)
