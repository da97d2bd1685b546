"""What each token adds to the value that a reward model gives a prefix: an increment."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32


def rm_increment_rewards(values: Float32[np.ndarray, " response+1"]) -> Float32[np.ndarray, " response"]:
    """r_t = V_t - V_{t-1}, beginning with V_0 read after the prompt [ours].

    They sum to V_T - V_0 and not to V_T. NaN where either value is missing.
    """
    return np.diff(values.astype(np.float64)).astype(np.float32)
