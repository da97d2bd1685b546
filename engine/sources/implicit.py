"""The reward that a preference-trained policy carries in itself, token by token."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32


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
