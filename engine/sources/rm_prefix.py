"""The value that a reward model gives every prefix of a response: a level."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32


def rm_prefix_rewards(values: Float32[np.ndarray, " response+1"]) -> Float32[np.ndarray, " response"]:
    """r_t = V_t, the scalar head read after y_t [sibling]; the last one is the reward of the sequence.

    `values` begin with V_0, read after the prompt, of which no token is told.
    """
    return values[1:].astype(np.float32)
