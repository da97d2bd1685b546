"""Labelled spans of a response as rewards of its tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int32

from engine.sources.registry import SOURCES, Source
from engine.types import Span


def span_rewards(
    spans: Sequence[Span] | None, offsets: Int32[np.ndarray, "response 2"]
) -> Float32[np.ndarray, " response"]:
    """The value of the span that a token overlaps, +1 or 0 outside of all spans, NaN where nothing is known.

    Nobody annotated (`spans` is None): all NaN. A span without a value: NaN. Where every span blames, the
    annotation is exhaustive and what lies outside is right: +1; else it is not judged: 0. A token that two
    spans claim takes the lower value, and a value before none [ours]. Spans are code points, as `offsets`.
    """
    tokens = len(offsets)
    if spans is None:
        return np.full(tokens, np.nan, np.float32)
    exhaustive = all(span.value is None or span.value < 0 for span in spans)
    rewards = np.full(tokens, 1.0 if exhaustive else 0.0, np.float32)
    for span in sorted(spans, key=_precedence):
        rewards[_overlapping(span, offsets)] = np.nan if span.value is None else span.value
    return rewards


def _precedence(span: Span) -> float:
    """Later in this order wins: spans without a value first, then the highest value, the lowest last."""
    return -np.inf if span.value is None else -span.value


def _overlapping(span: Span, offsets: Int32[np.ndarray, "response 2"]) -> np.ndarray:
    """True for tokens that share a code point with the span; an empty span takes the character after it."""
    end = max(span.end, span.start + 1)
    overlapping: np.ndarray = (offsets[:, 0] < end) & (offsets[:, 1] > span.start)
    return overlapping & (offsets[:, 0] < offsets[:, 1])


SOURCES.register(
    Source(
        name="spans",
        title="Labelled spans",
        sentence="+1 and -1 where people or programs labelled stretches of the response.",
        kind="label",
        needs={"spans"},
        rewards=lambda evidence: span_rewards(evidence.response.spans, evidence.offsets),
        identity="A span mapped to tokens covers the span.",
    )
)
