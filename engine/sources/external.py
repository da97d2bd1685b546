"""Rewards that came with the data: one a token, or one a stretch of characters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int32

from engine.errors import DataError
from engine.sources.registry import SOURCES, Evidence, Source


def external_rewards(
    rewards: Sequence[float] | None,
    reward_offsets: Sequence[tuple[int, int]] | None,
    offsets: Int32[np.ndarray, "response 2"],
    *,
    ends_with_eos: bool,
    name: str,
) -> Float32[np.ndarray, " response"]:
    """The given rewards, one a response token; NaN where none was given.

    Without `reward_offsets` there must be one a token, the EOS included or (then NaN) left out. With them a
    token takes the reward of the stretch that contains its start character, and the EOS that of a stretch
    that reaches the end of the text. `name` names the response in the DataError of a wrong length.
    """
    if rewards is None:
        return np.full(len(offsets), np.nan, np.float32)
    given = np.array(rewards, np.float32)
    if reward_offsets is None:
        return _one_a_token(given, len(offsets), ends_with_eos, name)
    return _one_a_stretch(given, reward_offsets, offsets, name)


def _one_a_token(
    given: Float32[np.ndarray, " given"], tokens: int, ends_with_eos: bool, name: str
) -> Float32[np.ndarray, " response"]:
    if len(given) == tokens:
        return given
    if ends_with_eos and len(given) == tokens - 1:
        return np.append(given, np.float32(np.nan))
    raise DataError(
        f"{name} comes with {len(given)} token rewards, but the tokenizer makes {tokens} tokens of it"
        f"{' (the last is the EOS, whose reward may be left out)' if ends_with_eos else ''}; "
        "give one a token, or add the character offsets that each reward belongs to."
    )


def _one_a_stretch(
    given: Float32[np.ndarray, " given"],
    reward_offsets: Sequence[tuple[int, int]],
    offsets: Int32[np.ndarray, "response 2"],
    name: str,
) -> Float32[np.ndarray, " response"]:
    stretches = np.array(reward_offsets, np.int64).reshape(-1, 2)
    length = int(offsets[-1, 1])
    if len(stretches) != len(given):
        raise DataError(
            f"{name} comes with {len(given)} token rewards and {len(stretches)} offsets; give one pair of "
            "offsets for each reward."
        )
    disordered = np.any(stretches[:, 0] > stretches[:, 1]) or np.any(np.diff(stretches[:, 0]) < 0)
    if disordered or np.any(stretches < 0) or np.any(stretches > length):
        raise DataError(
            f"{name} has reward offsets that are not ordered or leave its text of {length} characters; give "
            "[start, end) in code points, in the order of the text."
        )
    return _values_at(offsets[:, 0], stretches, given, length)


def _values_at(
    starts: np.ndarray, stretches: np.ndarray, given: Float32[np.ndarray, " given"], length: int
) -> Float32[np.ndarray, " response"]:
    """The reward of the stretch that each character lies in; position `length` belongs to the last one."""
    rewards = np.full(len(starts), np.nan, np.float32)
    if not len(given):
        return rewards
    which = np.searchsorted(stretches[:, 0], starts, side="right") - 1
    inside = (which >= 0) & (starts < stretches[which, 1])
    at_end = (starts == length) & (which == len(given) - 1) & (stretches[-1, 1] == length)
    found = inside | at_end
    rewards[found] = given[which[found]]
    return rewards


def _rewards(evidence: Evidence) -> Float32[np.ndarray, " response"]:
    return external_rewards(
        evidence.response.token_rewards,
        evidence.response.token_offsets,
        evidence.offsets,
        ends_with_eos=evidence.ends_with_eos,
        name=evidence.name,
    )


SOURCES.register(
    Source(
        name="external",
        title="From the data",
        sentence="Token rewards that came with the rows, one a token or one a character span.",
        kind="label",
        needs={"token_rewards"},
        rewards=_rewards,
        identity="What was given comes back unchanged.",
    )
)
