"""A source in one file: a token is worth the characters that it stands for."""

from __future__ import annotations

import numpy as np

from engine.sources.registry import SOURCES, Evidence, Source


def lengths(evidence: Evidence) -> np.ndarray:
    """Code points of every token; 0 for the EOS."""
    return evidence.offsets[:, 1] - evidence.offsets[:, 0]


SOURCES.register(
    Source(
        name="toy_length",
        title="Length of the token",
        sentence="How many characters a token stands for.",
        kind="increment",
        needs=set(),
        rewards=lengths,
        identity="The rewards sum to the length of the response.",
        cannot_show="Length says nothing of what is right.",
    )
)
