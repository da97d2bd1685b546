"""Made-up rewards of a text, for /patterns and for measurements.

They come from a fixed generator, so that the pictures stay comparable.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from app.services.scorings.maps import SideView
from engine.kept import kept_fraction
from engine.masks import segment_response
from engine.rules import SegmentationRule
from engine.segmentation.statistics import RewardStatistics
from engine.types import SIGN, RewardMap, Side, Span

SOURCE = "implicit"


def made_up_side(
    text: str,
    offsets: list[tuple[int, int]],
    spans: tuple[Span, ...],
    side: Side,
    seed: int,
    rule: SegmentationRule,
) -> SideView:
    """A response of which only text and tokens are given: one in forty of its rewards is missing, the rest is
    cut for real."""
    generator = np.random.default_rng(seed)
    tokens = len(offsets) + 1  # the EOS
    slow = np.repeat(generator.normal(0, 0.8, tokens // 7 + 1), 7)[:tokens]
    rewards = (slow + generator.normal(0, 0.25, tokens)).astype(np.float32)
    rewards[generator.random(tokens) < 1 / 40] = np.nan
    logprobs = -np.abs(generator.normal(2, 1, tokens))
    statistics = RewardStatistics()
    statistics.add(rewards)
    stored = RewardMap(
        key="sample",
        side=side,
        token_ids=_token_ids(text, offsets),
        offsets=np.array([*offsets, (len(text), len(text))], dtype=np.int32).reshape(-1, 2),
        eos="</s>",
        prompt_tokens=12,
        truncated_prompt_tokens=0,
        rewards={SOURCE: rewards},
        logprobs=logprobs.astype(np.float32),
        reference_logprobs=np.minimum(logprobs + generator.normal(0, 0.4, tokens), 0).astype(np.float32),
        entropies=generator.gamma(1.0, 1.2, tokens).astype(np.float32),
        ranks=generator.pareto(0.7, tokens).astype(np.int32),
        totals={SOURCE: float(np.nansum(rewards))},
    )
    cut = segment_response(
        rewards, SIGN[side], rule, statistics, text=text, offsets=stored.offsets, ends_with_eos=True
    )
    return SideView(
        side=side,
        text=text,
        map=stored,
        segmentation=cut,
        spans=spans,
        total=float(np.nansum(rewards)),
        kept=kept_fraction(cut.mask),
    )


def _token_ids(text: str, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """The same number for the same token, as a vocabulary has it; bytes of one character have one each."""
    numbers, parts = [], 0
    for index, (start, end) in enumerate(offsets):
        parts = parts + 1 if index and offsets[index - 1] == (start, end) else 0
        numbers.append(zlib.crc32(f"{text[start:end]} {parts}".encode()) % 50_000)
    return np.array([*numbers, 50_000], dtype=np.int32)
