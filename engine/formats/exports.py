"""A mask in the shapes that other trainers take: columns of TRL, and character spans.

Nothing is lost on the way to tokens and back: the spans of a mask cover its tokens. A receiver that sums or
averages over the columns decides itself what the denominator is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Int32

from engine.types import RewardMap, Segmentation

IGNORED_LABEL = -100
"""What losses in PyTorch and TRL skip."""


def completion_mask_row(reward_map: RewardMap, segmentation: Segmentation) -> dict[str, Any]:
    """`completion_ids` and `completion_mask` (1 counts) of one response, as TRL's trainers name them, and
    `labels`: the ids where the mask counts, -100 elsewhere."""
    ids, mask = reward_map.token_ids, segmentation.mask
    return {
        "id": reward_map.key,
        "side": reward_map.side,
        "completion_ids": ids.tolist(),
        "completion_mask": mask.astype(int).tolist(),
        "labels": np.where(mask, ids, IGNORED_LABEL).tolist(),
    }


def kept_spans(
    mask: Bool[np.ndarray, " response"], offsets: Int32[np.ndarray, "response 2"]
) -> list[list[int]]:
    """The code points [start, end) of every unbroken stretch that counts, in order.

    Stretches that touch are one, and the EOS, which has no characters, adds none.
    """
    spans: list[list[int]] = []
    for start, end in offsets[mask].tolist():
        if start == end:
            continue
        if spans and start <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], end)
        else:
            spans.append([start, end])
    return spans
