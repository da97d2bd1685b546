"""Draws responses from a policy, each row from a seed of its own: how a batch is made changes nothing.

The noise of a token is a hash of the row's seed, the step and the token, so that a row draws the same
response alone, in any batch and on any device, up to rounding: where two tokens are level to the last bits of
their logits, a batch of another shape may take the other one.

Used by rollouts and by evaluations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int32, Int64
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from engine.errors import RequestError
from engine.language_models import memory_advice


@dataclass(frozen=True, slots=True)
class Drawn:
    """A sampled response."""

    ids: Int32[np.ndarray, " response"]
    """Tokens after the prompt, the EOS included where it was drawn."""
    logprobs: Float32[np.ndarray, " response"]
    """Nats, under the policy at temperature 1, as it drew them."""
    ended: bool
    """Whether it ended by itself rather than at `max_new_tokens`."""


def sample(
    model: Any,
    prompts: Sequence[Int32[np.ndarray, " prompt"]],
    seeds: Sequence[int],
    *,
    eos: Sequence[int],
    max_new_tokens: int | Sequence[int],
    temperature: float = 1.0,
    top_p: float = 1.0,
    token_budget: int = 8192,
) -> list[Drawn]:
    """One response to each prompt, drawn with its own seed; `model` is a transformers causal LM.

    temperature 0 takes the likeliest token. A response ends after one of `eos`, or at its most new tokens, or
    where the context is full: a prompt that fills it gets an empty response. Of the model's own generation
    settings nothing counts. Raises RequestError for a prompt without tokens, ResourceError where the memory
    does not hold a batch.
    """
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    asked = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else max_new_tokens
    limits = [_room(prompt, most, context) for prompt, most in zip(prompts, asked, strict=True)]
    drawn = [Drawn(np.zeros(0, np.int32), np.zeros(0, np.float32), False) for _ in prompts]
    with _only_as_told(model), memory_advice("lower `token_budget` or the most new tokens."):
        for batch in _batches(prompts, limits, token_budget, context):
            answers = _draw(
                model,
                [prompts[index] for index in batch],
                [seeds[index] for index in batch],
                [limits[index] for index in batch],
                eos,
                temperature,
                top_p,
            )
            for index, answer in zip(batch, answers, strict=True):
                drawn[index] = answer
    return drawn


def _room(prompt: Int32[np.ndarray, " prompt"], most: int, context: int | None) -> int:
    """How many tokens may follow this prompt."""
    if not len(prompt):
        raise RequestError(
            "A prompt has no tokens, so that nothing predicts the first one of its response; give it a text."
        )
    return most if context is None else max(0, min(most, context - len(prompt)))


def _batches(
    prompts: Sequence[Int32[np.ndarray, " prompt"]],
    limits: Sequence[int],
    token_budget: int,
    context: int | None,
) -> Iterator[list[int]]:
    """Rows drawn together: of like length, as many as the budget allows, and so few that none is padded
    beyond the context."""
    order = sorted((i for i in range(len(prompts)) if limits[i]), key=lambda i: (len(prompts[i]), limits[i]))
    batch: list[int] = []
    longest = 0
    for index in order:
        width = len(prompts[index]) + max(longest, limits[index])
        full = width * (len(batch) + 1) > token_budget or (context is not None and width > context)
        if batch and full:
            yield batch
            batch, longest = [], 0
        batch.append(index)
        longest = max(longest, limits[index])
    if batch:
        yield batch


@contextmanager
def _only_as_told(model: Any) -> Iterator[None]:
    """While this lasts the model is in evaluation mode, and its own generation settings are nobody's."""
    modes = {module: module.training for module in model.modules()}
    settings = model.generation_config
    model.eval()
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = settings
        for module, training in modes.items():
            module.training = training


@torch.no_grad()
def _draw(
    model: Any,
    prompts: Sequence[Int32[np.ndarray, " prompt"]],
    seeds: Sequence[int],
    limits: Sequence[int],
    eos: Sequence[int],
    temperature: float,
    top_p: float,
) -> list[Drawn]:
    """The responses of one batch, whose prompts are padded on the left."""
    longest = max(len(prompt) for prompt in prompts)
    ids = np.zeros((len(prompts), longest), np.int64)
    mask = np.zeros((len(prompts), longest), np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    device = model.device
    choose = _Choose(seeds, temperature, top_p, device)
    sequences = model.generate(
        input_ids=torch.from_numpy(ids).to(device),
        attention_mask=torch.from_numpy(mask).to(device),
        generation_config=GenerationConfig(do_sample=False, max_new_tokens=max(limits), use_cache=True),
        logits_processor=LogitsProcessorList([choose]),
        stopping_criteria=StoppingCriteriaList([_Ends(longest, limits, eos, device)]),
    )
    tokens = sequences[:, longest:].cpu().numpy().astype(np.int32)
    logprobs = torch.stack(choose.logprobs, 1).cpu().numpy()
    return [_cut(tokens[row, :limit], logprobs[row, :limit], eos) for row, limit in enumerate(limits)]


def _cut(
    ids: Int32[np.ndarray, " drawn"], logprobs: Float32[np.ndarray, " drawn"], eos: Sequence[int]
) -> Drawn:
    """The response up to its first EOS: a row goes on being computed while others of its batch do."""
    ends = np.flatnonzero(np.isin(ids, eos))
    length = int(ends[0]) + 1 if len(ends) else len(ids)
    return Drawn(ids[:length].copy(), logprobs[:length].copy(), bool(len(ends)))


class _Ends(StoppingCriteria):  # type: ignore[misc]
    """Stops a row after an EOS or at its most new tokens."""

    def __init__(self, start: int, limits: Sequence[int], eos: Sequence[int], device: torch.device) -> None:
        self._ends = start + torch.tensor(limits, device=device)
        self._eos = torch.tensor(list(eos), dtype=torch.long, device=device)

    def __call__(
        self, input_ids: Int[torch.Tensor, "batch tokens"], scores: Any, **others: Any
    ) -> Bool[torch.Tensor, " batch"]:
        return torch.isin(input_ids[:, -1], self._eos) | (self._ends <= input_ids.shape[1])


class _Choose(LogitsProcessor):  # type: ignore[misc]
    """Leaves the drawn token as the likeliest, and notes its log-probability at temperature 1."""

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float, device: torch.device) -> None:
        self.logprobs: list[Float32[torch.Tensor, " batch"]] = []
        folded = np.array([seed % 2**64 for seed in seeds], np.uint64).view(np.int64)
        self._state = _mix(torch.from_numpy(folded).to(device))
        self._temperature = temperature
        self._top_p = top_p

    def __call__(
        self, input_ids: Int[torch.Tensor, "batch tokens"], scores: Float[torch.Tensor, "batch vocab"]
    ) -> Float32[torch.Tensor, "batch vocab"]:
        logits = scores.float()
        chances = logits.clone()
        if self._temperature > 0:
            chances /= self._temperature
            if self._top_p < 1.0:
                chances = _nucleus(chances, self._top_p)
            self._state += _GOLDEN
            _add_noise(chances, _mix(self._state.clone()))
        picked = chances.argmax(1, keepdim=True)
        self.logprobs.append((logits.gather(1, picked) - logits.logsumexp(1, keepdim=True))[:, 0])
        return chances


def _nucleus(
    logits: Float32[torch.Tensor, "batch vocab"], top_p: float
) -> Float32[torch.Tensor, "batch vocab"]:
    """-inf for all but the likeliest tokens that together have the probability `top_p`; one always stays."""
    falling, order = torch.sort(logits, dim=1, descending=True, stable=True)
    chances = falling.softmax(1)
    beyond = chances.cumsum(1) - chances >= top_p
    beyond[:, 0] = False
    return logits.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), -torch.inf)


# ---------------------------------------------------------------------------------------------------- noise

# argmax(logit - log E), with E exponential, draws from softmax(logits): the Gumbel trick. E comes from the
# finaliser of SplitMix64 (Steele, Lea and Flood 2014), whose state is the key of row and step plus the token.

_GOLDEN = -7046029254386353131
"""2^64 / golden ratio, as the signed number with the same bits."""
_FIRST, _SECOND = -4658895280553007687, -7723592293110705685
_TILE_NUMBERS = {"cpu": 2**19}
"""Noise made at a time: what fits the cache of a processor; elsewhere what costs little memory."""


def _add_noise(logits: Float32[torch.Tensor, "batch vocab"], keys: Int64[torch.Tensor, " batch"]) -> None:
    """Subtracts log E in place, a few rows at a time."""
    vocab = logits.shape[1]
    tokens = torch.arange(1, vocab + 1, device=keys.device) * _GOLDEN
    rows = max(1, _TILE_NUMBERS.get(keys.device.type, 2**24) // vocab)
    for start in range(0, len(keys), rows):
        part = slice(start, start + rows)
        logits[part] -= _exponentials(keys[part, None] + tokens).log_()


def _exponentials(states: Int64[torch.Tensor, "batch vocab"]) -> Float32[torch.Tensor, "batch vocab"]:
    """Draws from the exponential distribution, positive and finite; the states are used up."""
    bits = _shift(_mix(states), 32)
    # Near 0, where the winner is found, float32 keeps all 32 bits; near 1 it must not round to 1.
    uniform = bits.float().add_(0.5).mul_(2.0**-32).clamp_(max=1 - 2.0**-24)
    return uniform.neg_().log1p_().neg_()


def _mix(states: Int64[torch.Tensor, "*any"]) -> Int64[torch.Tensor, "*any"]:
    """64 well-mixed bits of each number, in place; what overflows wraps around."""
    states.bitwise_xor_(_shift(states, 30)).mul_(_FIRST)
    states.bitwise_xor_(_shift(states, 27)).mul_(_SECOND)
    return states.bitwise_xor_(_shift(states, 31))


def _shift(numbers: Int64[torch.Tensor, "*any"], by: int) -> Int64[torch.Tensor, "*any"]:
    """Shifted to the right and filled with zeros, which torch lacks for signed numbers."""
    return (numbers >> by).bitwise_and_(2 ** (64 - by) - 1)
