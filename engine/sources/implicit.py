"""The reward that a preference-trained policy carries in itself, token by token."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from engine.rules import SegmentationRule
from engine.sources.registry import SOURCES, Evidence, Source


def implicit_rewards(
    policy_logprobs: Float32[np.ndarray, " response"],
    reference_logprobs: Float32[np.ndarray, " response"],
    beta: float,
) -> Float32[np.ndarray, " response"]:
    """r_t = beta * (log policy(y_t) - log reference(y_t)), in nats times beta [sibling].

    They sum to the implicit reward of the sequence in DPO (arXiv 2305.18290, below equation 6, without the
    partition term, which no difference between responses can see). NaN where either is missing.
    """
    rewards: np.ndarray = beta * (policy_logprobs.astype(np.float64) - reference_logprobs)
    return rewards.astype(np.float32)


def _rewards(evidence: Evidence) -> Float32[np.ndarray, " response"]:
    assert evidence.policy_logprobs is not None
    assert evidence.reference_logprobs is not None
    return implicit_rewards(evidence.policy_logprobs, evidence.reference_logprobs, evidence.beta)


SOURCES.register(
    Source(
        name="implicit",
        title="Implicit reward",
        sentence="How much likelier the policy holds a token than the reference does, times beta.",
        kind="increment",
        needs={"policy", "reference"},
        instead="logprobs",
        rewards=_rewards,
        identity="The rewards sum to the implicit reward of the sequence.",
        default_rule=SegmentationRule(baseline="otsu", scale="std"),
        likelihood_baseline="median",
        is_centred=True,
        reads_text=False,
    )
)
