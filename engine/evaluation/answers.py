"""What a policy answers to tasks: drawn answers as texts, and the options that it finds likeliest.

A row's seed is made of the evaluation's seed, the task's key and the number of the sample, so that two
policies answer with the same noise, and neither the order of tasks nor their number changes an answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32

from engine.endings import ends_of_responses
from engine.language_models import LoadedModel
from engine.ragged import Row
from engine.reading import read_tracks
from engine.sampling import Drawn, sample
from engine.tasks import Choice, Task
from engine.tokens import TokenisedResponse, common_prompt, decode, tokenise, tokenise_prompts
from engine.types import Message, PreferencePair, Response

_NO_LIMIT = 2**31 - 1


class DrawnResponses(NamedTuple):
    """The responses to one task, as tokens."""

    given: Int32[np.ndarray, " given"]
    drawn: list[Drawn]


class Given(NamedTuple):
    """What a policy is given of a task: prompt and prefix as tokens."""

    ids: Int32[np.ndarray, " given"]
    cut_tokens: int
    """How many were cut from the left, so that the context holds the longest answer."""


class Options(NamedTuple):
    """A choice as the policy reads it."""

    row: Row
    """A branch an option, prefix and all."""
    starts: list[int]
    """Where the option itself begins in each branch."""


def given(loaded: LoadedModel, tasks: Sequence[Task]) -> list[Given]:
    """What the policy is given of every task. Raises DataError and ModelError as `tokens.tokenise` does."""
    prompts = tokenise_prompts(
        [_pair(task, "") for task in tasks], loaded.tokenizer, beginnings=[task.prefix for task in tasks]
    )
    return [_fitted(prompt, loaded, task.max_new_tokens) for task, prompt in zip(tasks, prompts, strict=True)]


def draw(
    loaded: LoadedModel,
    tasks: Sequence[Task],
    *,
    samples: int,
    temperature: float,
    top_p: float,
    seed: int,
    token_budget: int,
) -> list[DrawnResponses]:
    """`samples` responses to every task, as tokens."""
    rows = given(loaded, tasks)
    drawn = sample(
        loaded.model,
        [one.ids for one in rows for _ in range(samples)],
        [_seed(seed, task.key, number) for task in tasks for number in range(samples)],
        eos=ends_of_responses(loaded.tokenizer, loaded.info.eos_token_ids),
        max_new_tokens=[task.max_new_tokens for task in tasks for _ in range(samples)],
        temperature=temperature,
        top_p=top_p,
        token_budget=token_budget,
    )
    return [DrawnResponses(one.ids, drawn[at * samples : (at + 1) * samples]) for at, one in enumerate(rows)]


def answers(
    loaded: LoadedModel,
    tasks: Sequence[Task],
    *,
    samples: int,
    temperature: float,
    top_p: float,
    seed: int,
    token_budget: int,
) -> list[list[str]]:
    """`samples` answers to every task, as what follows its prefix, without special tokens."""
    drawings = draw(
        loaded,
        tasks,
        samples=samples,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        token_budget=token_budget,
    )
    return [
        [decode(one.given.tolist(), answer.ids.tolist(), loaded.tokenizer).text for answer in one.drawn]
        for one in drawings
    ]


def likeliest_options(loaded: LoadedModel, tasks: Sequence[Task], token_budget: int) -> list[int]:
    """The option of every choice that has the highest mean log-probability a token; of equals the first."""
    read_rows = options(loaded, tasks)
    read = read_tracks(loaded, [one.row for one in read_rows], token_budget, with_distribution=False)
    return [
        int(np.argmax([_mean(one.logprobs[at:]) for one, at in zip(tracks, row.starts, strict=True)]))
        for tracks, row in zip(read, read_rows, strict=True)
    ]


def options(loaded: LoadedModel, tasks: Sequence[Task]) -> list[Options]:
    """The options of every choice as tokens. Raises DataError and ModelError as `tokens.tokenise` does."""
    pairs = [_pair(task, task.prefix + text) for task in tasks for text in _choice(task).options]
    remaining = iter(_tokenised(loaded, pairs))
    found = []
    for task in tasks:
        branches = [next(remaining) for _ in _choice(task).options]
        prompt = common_prompt(branches)
        own = [one.prompt[len(prompt) :] for one in branches]
        # A token that stands across the seam belongs to the option.
        starts = [
            len(before) + int((one.offsets[:, 1] <= len(task.prefix)).sum())
            for before, one in zip(own, branches, strict=True)
        ]
        ids = [np.concatenate([before, one.ids]) for before, one in zip(own, branches, strict=True)]
        found.append(Options(_row(prompt, ids, loaded.info.context), starts))
    return found


def _choice(task: Task) -> Choice:
    assert isinstance(task.checker, Choice)
    return task.checker


def prompt_of(task: Task) -> str | tuple[Message, ...]:
    """The prompt of a task as pairs hold it."""
    if isinstance(task.prompt, str):
        return task.prompt
    return tuple(Message(turn["role"], turn["content"]) for turn in task.prompt)


def _pair(task: Task, text: str) -> PreferencePair:
    """The task's prompt with a response, which the tokens' functions read."""
    return PreferencePair(task.key, prompt_of(task), Response(text), None)


def _tokenised(loaded: LoadedModel, pairs: Sequence[PreferencePair]) -> list[TokenisedResponse]:
    return tokenise(pairs, loaded.tokenizer, append_eos=False, max_response_tokens=_NO_LIMIT)


def _fitted(ids: Int32[np.ndarray, " given"], loaded: LoadedModel, most: int) -> Given:
    if loaded.info.context is None:
        return Given(ids, 0)
    cut = max(0, len(ids) - max(1, loaded.info.context - most))
    return Given(ids[cut:], cut)


def _row(
    prompt: Int32[np.ndarray, " prompt"],
    options: Sequence[Int32[np.ndarray, " _option"]],
    context: int | None,
) -> Row:
    """The options after their prompt, of which as much stays as the longest option leaves."""
    if context is not None:
        room = max(1, context - max(len(ids) for ids in options))
        prompt = prompt[max(0, len(prompt) - room) :]
    most = None if context is None else context - len(prompt)
    return Row(prompt, tuple(ids[:most] for ids in options))


def _mean(logprobs: np.ndarray) -> float:
    """The mean of what was read; the worst where nothing was."""
    there: Float64[np.ndarray, " read"] = logprobs[~np.isnan(logprobs)].astype(np.float64)
    return float(there.mean()) if len(there) else -np.inf


def _seed(seed: int, key: str, number: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{number}/{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest)
