"""Many rows in one pass without padding, each prompt read once for all of its continuations.

The tokens of all rows stand in one sequence with explicit positions, and attention runs row by row, through
transformers' AttentionInterface. Whether an architecture can be read so is found out by `reading`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64
from transformers import AttentionInterface

ATTENTION = "rewardscope_ragged"
QUERY_BLOCK = 256
"""Queries that share one mask: bounds the memory of masks whatever the length of a response."""
KEPT_MASK_NUMBERS = 2**20
"""Masks up to this size are kept for the other layers of the same pass."""


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt and the continuations that share it, as token ids."""

    prompt: Int32[np.ndarray, " prompt"]
    branches: tuple[Int32[np.ndarray, " response"], ...]

    @property
    def tokens(self) -> int:
        return len(self.prompt) + sum(len(branch) for branch in self.branches)


class Tree(NamedTuple):
    """Where a row lies in the sequence: its prompt [start, prompt_end), then its branches."""

    start: int
    prompt_end: int
    branches: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Layout:
    """Where everything lies in the one sequence of a batch."""

    ids: np.ndarray
    positions: np.ndarray
    trees: list[Tree]
    readings: np.ndarray
    """Places whose hidden states are wanted, in the order of the branches."""
    query_lengths: list[int]
    """Pieces of the sequence that ask: the prompt with the first branch, then each further branch."""
    key_lengths: list[int]
    """Pieces of the sequence that are looked at: the prompt, then each branch."""
    masks: dict[tuple[int, int, int | None], torch.Tensor] = field(default_factory=dict)
    saw_window: bool = False


_active: ContextVar[Layout] = ContextVar("layout of the ragged batch")


def lay_out(rows: Sequence[Row]) -> Layout:
    """The one sequence of these rows, each of which has a branch at least.

    Each branch is read after its prompt and after each of its tokens. Where there is no prompt, the first of
    these readings is without meaning.
    """
    ids, positions, trees, readings = [], [], [], []
    query_lengths, key_lengths = [], []
    at = 0
    for row in rows:
        start, prompt = at, len(row.prompt)
        lengths = [len(branch) for branch in row.branches]
        query_lengths += [prompt + lengths[0], *lengths[1:]]
        key_lengths += [prompt, *lengths]
        ids.append(row.prompt)
        positions.append(np.arange(prompt))
        at += prompt
        branches = []
        for branch in row.branches:
            ids.append(branch)
            positions.append(np.arange(prompt, prompt + len(branch)))
            readings.append(np.concatenate([[max(start + prompt - 1, 0)], np.arange(at, at + len(branch))]))
            branches.append((at, at + len(branch)))
            at += len(branch)
        trees.append(Tree(start, start + prompt, tuple(branches)))
    return Layout(_joined(ids), _joined(positions), trees, _joined(readings), query_lengths, key_lengths)


def _joined(parts: Sequence[np.ndarray]) -> Int64[np.ndarray, " joined"]:
    return np.concatenate(parts).astype(np.int64)


def ragged_states(
    model: Any, backbone: Any, layout: Layout, device: torch.device
) -> Float[torch.Tensor, "readings hidden"]:
    """Hidden states at the readings of the layout, in one pass of the backbone of `model`."""
    with _attention_by_row(model, layout):
        output = backbone(
            input_ids=torch.from_numpy(layout.ids[None]).to(device),
            position_ids=torch.from_numpy(layout.positions[None]).to(device),
            use_cache=False,
        )
    states: torch.Tensor = output.last_hidden_state[0]
    return states[torch.from_numpy(layout.readings).to(device)]


@contextmanager
def _attention_by_row(model: Any, layout: Layout) -> Iterator[None]:
    """Attention row by row while this lasts; before and after it is the model's own."""
    own = model.config._attn_implementation
    token = _active.set(layout)
    model.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(own)
        _active.reset(token)


def recomputing(model: Any) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What activation checkpointing wraps a layer in: nothing now, and when the layer is computed again in
    the backward pass, perhaps in another thread, the attention by row that is in force now."""
    layout = _active.get(None)
    return nullcontext(), nullcontext() if layout is None else _attention_by_row(model, layout)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each row; branches see their prompt and themselves.

    query, key, value (1, heads, tokens, width) -> (1, tokens, heads, width), as AttentionInterface wants it.
    """
    for name in ("softcap", "s_aux", "position_bias"):
        if others.get(name) is not None:
            raise NotImplementedError(f"attention with {name}")
    layout = _active.get()
    layout.saw_window = layout.saw_window or sliding_window is not None
    # Split into pieces and joined, never sliced: the gradient of each slice would be as large as the whole.
    queries = iter(torch.split(query, layout.query_lengths, dim=2))
    keys, values = (iter(torch.split(track, layout.key_lengths, dim=2)) for track in (key, value))
    outputs = []
    for tree in layout.trees:
        prompt_keys, prompt_values = next(keys), next(values)
        for _ in tree.branches:
            asked = next(queries)
            seen_keys = torch.cat([prompt_keys, next(keys)], dim=2)
            seen_values = torch.cat([prompt_values, next(values)], dim=2)
            if asked.shape[2]:
                outputs.append(_attend(asked, seen_keys, seen_values, scaling, sliding_window, layout))
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    window: int | None,
    layout: Layout,
) -> torch.Tensor:
    """Causal attention of queries that are the last ones of the keys."""
    queries, keys = query.shape[2], key.shape[2]
    options: dict[str, Any] = {"scale": scaling, "enable_gqa": query.shape[1] != key.shape[1]}
    product = torch.nn.functional.scaled_dot_product_attention
    if window is not None and window >= keys:
        window = None
    if queries == keys and window is None:
        return product(query, key, value, is_causal=True, **options)
    parts = []
    for start in range(0, queries, QUERY_BLOCK):
        end = min(start + QUERY_BLOCK, queries)
        last = keys - queries + end
        first = 0 if window is None else max(0, keys - queries + start - window + 1)
        mask = _mask(end - start, last - first, window, layout, query.device)
        parts.append(
            product(query[:, :, start:end], key[:, :, first:last], value[:, :, first:last], mask, **options)
        )
    return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]


def _mask(queries: int, keys: int, window: int | None, layout: Layout, device: torch.device) -> torch.Tensor:
    """True where a query, one of the last of the keys, may look: (queries, keys)."""
    kept = layout.masks.get((queries, keys, window))
    if kept is not None:
        return kept
    mask = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    if window is not None:
        mask = mask.triu(keys - queries - window + 1)
    if mask.numel() <= KEPT_MASK_NUMBERS:
        layout.masks[(queries, keys, window)] = mask
    return mask


AttentionInterface.register(ATTENTION, _attention)
