"""Rollouts cut into segments: which of their tokens count, and where their reward stands.

The rule decides where a response is cut and what a segment's polarity is. What a segment earns is the sum of
the increments of its tokens (of a level: its change from the segment's start to its end), whatever the rule's
baseline and aggregate, so that the rewards of all segments together are the reward of the response. Decided
here [ours]:

- Rewards of a source that is centred (the implicit one) lose their mean over all tokens of the batch of
  rollouts before they are earned. A preference-trained scorer puts nearly every token a little below 0, so
  that their plain sum pays for being short: responses shrink to a few words. Centred, length earns nothing on
  average. This is a baseline of tokens: that of sequences, taken from every token, would pay for length
  itself (METHOD section 5).
- Values of a reward model are earned as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64

from engine.masks import RunSegmentation, segment_run
from engine.rules import SegmentationRule
from engine.segmentation.statistics import RewardStatistics
from engine.sources import SOURCES, SourceName
from engine.training.rollouts import Rollout


class EarnedRewards(NamedTuple):
    """What rollouts earn: what training makes advantages of."""

    increments: list[Float64[np.ndarray, " _response"]]
    """What each token adds."""
    rewards: list[float]
    """The reward of each response."""


class RolloutSegments:
    """Cuts rollouts by a rule, with the baselines and scales of all rollouts of the training so far."""

    def __init__(self, rule: SegmentationRule, source: SourceName, *, judged: bool) -> None:
        """judged: whether a reward model gives the sequence reward."""
        self._rule = rule
        self._source = SOURCES[source]
        self._judged = judged
        self.token_rewards = RewardStatistics()
        """Of the source, over all rollouts so far."""
        self.totals = RewardStatistics()
        """Of each rollout the sum of its increments."""
        self.sequence_rewards = RewardStatistics()
        """What the rollouts earned."""

    def earned(self, rollouts: Sequence[Rollout]) -> EarnedRewards:
        """What new rollouts earn; they are from now on among those that statistics are taken over."""
        increments = [one.said.increments.astype(np.float64) for one in rollouts]
        for one in rollouts:
            self.token_rewards.add(one.said.token_rewards)
        if self._source.is_centred:
            mean = np.concatenate(increments).mean()
            increments = [track - mean for track in increments]
        sums = np.array([track.sum() for track in increments])
        rewards = np.array([one.reward for one in rollouts]) if self._judged else sums
        self.totals.add(sums)
        self.sequence_rewards.add(rewards)
        if self._judged and "reward_model" not in self._source.needs:
            # Nats of a scorer are brought to the units of the reward model: their sums deviate alike.
            ours, whole = self.totals.std, self.sequence_rewards.std
            factor = whole / ours if ours > 0 and whole > 0 else 1.0
            increments = [track * factor for track in increments]
        return EarnedRewards(increments, rewards.tolist())

    def cut(self, rollouts: Sequence[Rollout], signs: Sequence[int]) -> RunSegmentation:
        """The rollouts cut, and masked by their agreement with `signs`, which are +1, -1 or 0 for neither."""
        texts = [one.said.decoded.text for one in rollouts if one.said.decoded is not None]
        offsets = [one.said.decoded.offsets for one in rollouts if one.said.decoded is not None]
        return segment_run(
            np.concatenate([one.said.token_rewards for one in rollouts]),
            np.concatenate([[0], np.cumsum([len(one.ids) for one in rollouts])]).astype(np.int64),
            np.array(signs),
            self._rule,
            self.token_rewards,
            texts=texts or None,
            offsets=np.concatenate(offsets) if offsets else None,
            entropies=np.concatenate([one.entropies for one in rollouts]),
            ends_with_eos=np.array([one.ended for one in rollouts], dtype=np.bool_),
        )

    def state(self) -> dict[str, Any]:
        """Plain JSON, for `restore`."""
        return {
            "token_rewards": self.token_rewards.to_dict(),
            "totals": self.totals.to_dict(),
            "sequence_rewards": self.sequence_rewards.to_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave."""
        self.token_rewards = RewardStatistics.from_dict(state["token_rewards"])
        self.totals = RewardStatistics.from_dict(state["totals"])
        self.sequence_rewards = RewardStatistics.from_dict(state["sequence_rewards"])


def weights_of(cut: RunSegmentation) -> list[Float32[np.ndarray, " _response"]]:
    """How much each token of each rollout counts, from 0 to 1."""
    kept = cut.mask if cut.weights is None else cut.weights
    return np.split(kept.astype(np.float32), cut.rows.starts[1:-1])


def dense_rewards(
    earned: EarnedRewards, cut: RunSegmentation, *, placing: Literal["ends", "spread"]
) -> list[Float64[np.ndarray, " _response"]]:
    """The reward of each token: what its segment earns, at the segment's last token or evenly on all of them,
    and at the last token of the response what is left of the sequence reward.

    So each response's rewards sum to its sequence reward, however it is cut: cutting says where it was earned
    and changes nothing of how much. Uncut, all of it stands at the last token.
    """
    lengths = _lengths(cut)
    sums = _segment_sums(earned, cut)
    if placing == "spread":
        flat = np.repeat(sums / lengths, lengths)
    else:
        flat = np.zeros(int(lengths.sum()))
        flat[np.cumsum(lengths) - 1] = sums
    rewards = np.split(flat, cut.rows.starts[1:-1])
    for reward, of_one in zip(earned.rewards, rewards, strict=True):
        of_one[-1] += reward - of_one.sum()
    return rewards


def whole_rewards(earned: EarnedRewards) -> list[Float64[np.ndarray, " _response"]]:
    """The sequence reward of each response at its last token, 0 elsewhere."""
    rewards = [np.zeros(len(track)) for track in earned.increments]
    for reward, of_one in zip(earned.rewards, rewards, strict=True):
        of_one[-1] = reward
    return rewards


def segment_means(earned: EarnedRewards, cut: RunSegmentation) -> list[Float64[np.ndarray, " _response"]]:
    """u: on every token the mean increment of its segment."""
    lengths = _lengths(cut)
    return np.split(np.repeat(_segment_sums(earned, cut) / lengths, lengths), cut.rows.starts[1:-1])


def _segment_sums(earned: EarnedRewards, cut: RunSegmentation) -> Float64[np.ndarray, " segments"]:
    sums: np.ndarray = np.add.reduceat(np.concatenate(earned.increments), np.flatnonzero(cut.cuts))
    return sums


def _lengths(cut: RunSegmentation) -> Int64[np.ndarray, " segments"]:
    return np.diff(np.append(np.flatnonzero(cut.cuts), cut.rows.tokens))
