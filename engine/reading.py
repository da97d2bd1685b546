"""Reads policies and reward models over many rows: tracks of every token, values after every token.

Most models are read without padding (see `ragged`). One that cannot be, which is found out by trying once,
is read in another way: slower and equal.

    ragged    all rows of a token budget in one sequence
    padded    rows padded on the right to the longest
    alone     a row at a time, for positions or heads that depend on the other rows or are not known
    prefixes  every prefix of a response by itself, for reward models that see the whole text at once
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64

from engine.errors import ModelError
from engine.language_models import LoadedModel
from engine.logprobs import TokenTracks, token_tracks, tracks_of_logits
from engine.ragged import Row, lay_out, ragged_states

log = logging.getLogger(__name__)

PROBE_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""Largest difference, in standard deviations of the hidden states, between two ways to read a model. What
they may differ by is rounding; what a wrong mask or position changes is of the order of 1."""

Plan = Literal["ragged", "padded", "alone", "prefixes"]


class Tracks(NamedTuple):
    """What a policy says of each token of one continuation; NaN (rank -1) where nothing precedes it."""

    logprobs: Float32[np.ndarray, " response"]
    entropies: Float32[np.ndarray, " response"] | None
    ranks: Int32[np.ndarray, " response"] | None


@torch.inference_mode()
def read_tracks(
    loaded: LoadedModel, rows: Sequence[Row], token_budget: int, *, with_distribution: bool = True
) -> list[list[Tracks]]:
    """Log-probabilities of every branch of every row, with entropies and ranks where they are wanted."""
    plan = plan_of(loaded)
    # The last token of a branch is predicted, not read.
    seen = [Row(row.prompt, tuple(branch[:-1] for branch in row.branches)) for row in rows]
    tracks: list[list[Tracks]] = [[] for _ in rows]
    for batch in batches(seen, token_budget, plan):
        targets = _tensor(np.concatenate([b for i in batch for b in rows[i].branches]), loaded)
        chosen = [seen[index] for index in batch]
        if plan == "alone":
            logits = own_logits(loaded, chosen[0])
            parts = tracks_of_logits(logits, targets, with_distribution)
        else:
            hidden = hidden_states(loaded, chosen, plan)
            parts = token_tracks(
                hidden, targets, loaded.head, loaded.vocab_size, with_distribution=with_distribution
            )
        flat = _split(parts, [rows[index] for index in batch])
        for index in batch:
            tracks[index] = [next(flat) for _ in rows[index].branches]
    return tracks


@torch.inference_mode()
def read_values(
    loaded: LoadedModel,
    rows: Sequence[Row],
    token_budget: int,
    closings: Sequence[Sequence[Int32[np.ndarray, " _closing"]]] | None = None,
) -> list[list[Float32[np.ndarray, " response+1"]]]:
    """What a reward model gives the prompt and what has been said after every token, as its own forward pass
    would; NaN where there is no prompt.

    closings: what is read after each branch of each row before the value of the whole is taken.
    """
    plan = plan_of(loaded)
    ends = closings or [[branch[:0] for branch in row.branches] for row in rows]
    values: list[list[np.ndarray]] = [[] for _ in rows]
    closed = [
        Row(row.prompt, tuple(np.concatenate(pair) for pair in zip(row.branches, of_row, strict=True)))
        for row, of_row in zip(rows, ends, strict=True)
    ]
    for batch in batches(closed, token_budget, plan):
        if plan == "prefixes":
            [index] = batch
            values[index] = _prefix_values(loaded, rows[index], ends[index], token_budget)
            continue
        read = _array(loaded.values(hidden_states(loaded, [closed[index] for index in batch], plan)))
        start = 0
        for index in batch:
            for branch, closing in zip(rows[index].branches, ends[index], strict=True):
                one = read[start + value_places(branch, closing, loaded.skipped_padding)]
                if not len(rows[index].prompt):
                    one[0] = np.nan
                values[index].append(one)
                start += len(branch) + len(closing) + 1
    return values


def value_places(
    branch: Int32[np.ndarray, " response"], closing: Int32[np.ndarray, " closing"], padding: int | None
) -> Int64[np.ndarray, " response+1"]:
    """Which readings of a branch and its closing, which begin with that of the prompt, are the values of the
    prompt, after every token, and of the whole.

    The whole is read after its closing, and none after a token that the model takes for padding: transformers
    reads a classifier at the last token that is not its pad token, be that the EOS.
    """
    at = np.arange(len(branch) + len(closing) + 1)
    if padding is not None:
        counts = np.concatenate([[True], branch != padding, closing != padding])
        at = np.maximum.accumulate(np.where(counts, at, 0))
    return np.append(at[: len(branch)], at[-1])


def batches(rows: Sequence[Row], token_budget: int, plan: Plan) -> Iterator[list[int]]:
    """Positions of rows that are read together: sorted by length, as many as the budget allows."""
    batch: list[int] = []
    used = 0
    for index in sorted(range(len(rows)), key=lambda index: (rows[index].tokens, index)):
        tokens = rows[index].tokens
        if plan == "padded":
            sequences = sum(len(rows[one].branches) for one in [*batch, index])
            needed = sequences * max(len(rows[index].prompt) + len(b) for b in rows[index].branches)
        else:
            needed = used + tokens
        if batch and (needed > token_budget or plan in ("alone", "prefixes")):
            yield batch
            batch, used = [], 0
        batch.append(index)
        used += tokens
    if batch:
        yield batch


# ------------------------------------------------------------------------------------------- reading a batch


def hidden_states(loaded: LoadedModel, rows: Sequence[Row], plan: Plan) -> torch.Tensor:
    """Hidden states after the prompt and after every token of each branch: (sum of len(branch) + 1, hidden).

    Where there is no prompt, the first of a branch is without meaning.
    """
    if plan == "ragged":
        return _ragged_hidden(loaded, rows)
    sequences = [np.concatenate([row.prompt, branch]) for row in rows for branch in row.branches]
    lengths = [len(branch) for row in rows for branch in row.branches]
    states = _padded_states(loaded, sequences)
    kept = []
    for index, (sequence, length) in enumerate(zip(sequences, lengths, strict=True)):
        first = len(sequence) - length - 1
        at = torch.arange(first, len(sequence), device=states.device).clamp(min=0)
        kept.append(states[index, at])
    return torch.cat(kept)


def _ragged_hidden(loaded: LoadedModel, rows: Sequence[Row]) -> torch.Tensor:
    layout = lay_out(rows)
    if len(layout.ids):
        return ragged_states(loaded.model, loaded.backbone, layout, loaded.device)
    # Single tokens without a prompt: nothing is read, and nothing is asked of what comes back.
    width = loaded.model.config.get_text_config().hidden_size
    return torch.zeros(len(layout.readings), width, device=loaded.device, dtype=loaded.dtype)


def _padded_states(loaded: LoadedModel, sequences: Sequence[np.ndarray]) -> torch.Tensor:
    """(sequences, longest, hidden); what stands right of a sequence is without meaning."""
    longest = max(1, max(len(sequence) for sequence in sequences))
    ids = np.zeros((len(sequences), longest), np.int64)
    mask = np.zeros((len(sequences), longest), np.int64)
    for index, sequence in enumerate(sequences):
        ids[index, : len(sequence)] = sequence
        mask[index, : len(sequence)] = 1
    everything_counts = bool(mask.all())
    output = loaded.backbone(
        input_ids=_tensor(ids, loaded),
        attention_mask=None if everything_counts else _tensor(mask, loaded),
        use_cache=False,
    )
    states: torch.Tensor = output.last_hidden_state
    return states


def own_logits(loaded: LoadedModel, row: Row) -> torch.Tensor:
    """Logits after the prompt and after every token of each branch, by the model's own forward pass."""
    parts = []
    for branch in row.branches:
        sequence = np.concatenate([row.prompt, branch])
        if not len(sequence):
            sequence = np.zeros(1, np.int32)
        logits = loaded.model(input_ids=_tensor(sequence[None], loaded), use_cache=False).logits[0]
        first = len(row.prompt) - 1
        at = torch.arange(first, first + len(branch) + 1, device=logits.device).clamp(min=0)
        parts.append(logits[at].float())
    return torch.cat(parts)


def _prefix_values(
    loaded: LoadedModel, row: Row, closings: Sequence[np.ndarray], token_budget: int
) -> list[np.ndarray]:
    """The value of every prefix of every branch, each closed and read by itself as a whole text."""
    values = []
    for branch, closing in zip(row.branches, closings, strict=True):
        whole = np.concatenate([row.prompt, branch])
        shortest = len(row.prompt)
        prefixes = [np.concatenate([whole[:end], closing]) for end in range(max(shortest, 1), len(whole) + 1)]
        parts = [] if shortest else [np.full(1, np.nan, np.float32)]
        together = max(1, token_budget // max(len(whole), 1))
        for start in range(0, len(prefixes), together):
            parts.append(_whole_values(loaded, prefixes[start : start + together]))
        values.append(np.concatenate(parts))
    return values


def _whole_values(loaded: LoadedModel, sequences: Sequence[np.ndarray]) -> np.ndarray:
    padding = loaded.model.config.get_text_config().pad_token_id
    if padding is None:  # Without a padding token a classifier takes one length at a time.
        return np.concatenate(
            [_array(loaded.model(input_ids=_tensor(one[None], loaded)).logits[:, 0]) for one in sequences]
        )
    longest = max(len(sequence) for sequence in sequences)
    ids = np.full((len(sequences), longest), padding, np.int64)
    mask = np.zeros((len(sequences), longest), np.int64)
    for index, sequence in enumerate(sequences):
        ids[index, : len(sequence)] = sequence
        mask[index, : len(sequence)] = 1
    output = loaded.model(input_ids=_tensor(ids, loaded), attention_mask=_tensor(mask, loaded))
    return _array(output.logits[:, 0])


def _tensor(array: np.ndarray, loaded: LoadedModel) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.int64)).to(loaded.device)


def _array(tensor: torch.Tensor) -> np.ndarray:
    array: np.ndarray = tensor.cpu().numpy()
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int32)


def _split(tracks: TokenTracks, rows: Sequence[Row]) -> Iterator[Tracks]:
    """The tracks of each branch of the rows."""
    logprobs = _array(tracks.logprobs)
    entropies = None if tracks.entropies is None else _array(tracks.entropies)
    ranks = None if tracks.ranks is None else _array(tracks.ranks)
    start = 0
    for row in rows:
        for branch in row.branches:
            part = slice(start, start := start + len(branch))
            one = Tracks(
                logprobs[part].copy(),
                None if entropies is None else entropies[part].copy(),
                None if ranks is None else ranks[part].copy(),
            )
            if not len(row.prompt):
                _forget_first(one)
            yield one


def _forget_first(tracks: Tracks) -> None:
    """Nothing predicts the first token of a response without a prompt."""
    tracks.logprobs[0] = np.nan
    if tracks.entropies is not None and tracks.ranks is not None:
        tracks.entropies[0], tracks.ranks[0] = np.nan, -1


# --------------------------------------------------------------------------- how many threads


SMALL_PARAMETERS = 20_000_000
"""Up to this size a second thread may cost more than it computes."""


@contextmanager
def fitting_threads(loaded: LoadedModel) -> Iterator[None]:
    """While this lasts, torch has the number of threads that reads this model fastest: one, or all it had.

    Threads that wait for one another at every small product lose to one thread, by far where other processes
    use the cores. Only models that are small and on the CPU are tried, each once: a process that stays warm
    reads models of all sizes, and a short request takes less time than the trial.
    """
    every = torch.get_num_threads()
    try:
        torch.set_num_threads(_fitting_threads(loaded, every))
        yield
    finally:
        torch.set_num_threads(every)


def _fitting_threads(loaded: LoadedModel, every: int) -> int:
    if every == 1 or loaded.device.type != "cpu" or loaded.info.parameters > SMALL_PARAMETERS:
        return every
    if loaded.threads is None:
        generator = np.random.default_rng(0)
        ids = generator.integers(0, loaded.vocab_size, 32).astype(np.int32)
        rows = [Row(ids, (ids, ids))] * 4
        seconds = {threads: _seconds(loaded, rows, threads) for threads in (1, every)}
        loaded.threads = min(seconds, key=lambda threads: seconds[threads])
    return loaded.threads


def _seconds(loaded: LoadedModel, rows: Sequence[Row], threads: int) -> float:
    """How long reading these rows takes: the median of three, after one to warm up."""
    torch.set_num_threads(threads)
    taken = []
    for _ in range(4):
        began = time.perf_counter()
        if loaded.info.kind == "causal_lm":
            read_tracks(loaded, rows, 8192)
        else:
            read_values(loaded, rows, 8192)
        taken.append(time.perf_counter() - began)
    return sorted(taken[1:])[1]


# ---------------------------------------------------------------------------------------- how to read a model


def plan_of(loaded: LoadedModel) -> Plan:
    """How this model is read: the fastest way that gives what a plain forward pass gives, tried once."""
    if loaded.plan is None:
        loaded.plan = _find_plan(loaded)
        if loaded.plan != "ragged":
            note = f"`{loaded.info.path}` ({loaded.info.architecture}) is read {_IN_WORDS[loaded.plan]}"
            loaded.notes.append(note)
            log.warning(note)
    plan: Plan = loaded.plan
    return plan


_IN_WORDS = {
    "padded": "in padded batches, for its attention cannot be run row by row: slower, with equal results.",
    "alone": "one row at a time, for its results depend on the rest of a batch: slow, with equal results.",
    "prefixes": "once for every token, for it sees a whole text at once: exact, and slow.",
}


@torch.inference_mode()
def _find_plan(loaded: LoadedModel) -> Plan:
    rows = _probe_rows(loaded.vocab_size)
    if loaded.info.kind == "sequence_classifier":
        if not _is_read_at_every_token(loaded, rows):
            return "prefixes"
        if loaded.skipped_padding is not None and loaded.skipped_padding == loaded.tokenizer.eos_token_id:
            loaded.notes.append(
                f"`{loaded.info.path}` pads with its EOS: its own forward pass takes a closing EOS for "
                "padding and gives the value before it. So it is read here; its EOS never changes a value."
            )
    else:
        if not _is_causal(loaded, rows):
            raise ModelError(
                f"`{loaded.info.path}` ({loaded.info.architecture}) lets a token see those after it, so "
                "that it has no log-probability of a response; use a causal LM."
            )
        if not _head_is_known(loaded, rows[0]):
            return "alone"
    if _positions_depend_on_length(loaded):
        return "alone"
    plain = torch.cat([hidden_states(loaded, [row], "alone") for row in rows])
    if _agrees(lambda: _checked_ragged_states(loaded, rows), plain):
        return "ragged"
    return "padded" if _agrees(lambda: hidden_states(loaded, rows, "padded"), plain) else "alone"


def _probe_rows(vocab_size: int) -> list[Row]:
    """Two rows of random tokens, one with two branches, so that any leak between rows shows."""
    generator = np.random.default_rng(0)
    drawn = [generator.integers(0, vocab_size, length).astype(np.int32) for length in (6, 5, 3, 4, 7)]
    return [Row(drawn[0], (drawn[1], drawn[2])), Row(drawn[3], (drawn[4],))]


def _agrees(read: Callable[[], torch.Tensor], plain: torch.Tensor) -> bool:
    try:
        states = read()
    except Exception as error:  # Whatever an unknown architecture raises, it is read in another way.
        log.info("probe failed", extra={"error": str(error)})
        return False
    if states.shape != plain.shape:
        return False
    difference = (states.float() - plain.float()).abs().max() / plain.float().std().clamp(min=1e-12)
    return float(difference) <= PROBE_TOLERANCE.get(plain.dtype, 0.1)


def _checked_ragged_states(loaded: LoadedModel, rows: Sequence[Row]) -> torch.Tensor:
    layout = lay_out(rows)
    states = ragged_states(loaded.model, loaded.backbone, layout, loaded.device)
    if _has_window(loaded) and not layout.saw_window:
        raise NotImplementedError("a sliding window that attention is not told of")
    return states


def _has_window(loaded: LoadedModel) -> bool:
    config = loaded.model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return any("sliding" in kind or "chunked" in kind for kind in kinds)
    return bool(getattr(config, "sliding_window", None))


def _is_causal(loaded: LoadedModel, rows: Sequence[Row]) -> bool:
    """Whether the hidden states of a text's beginning are the same with and without its end."""
    whole = np.concatenate([rows[0].prompt, rows[0].branches[0]])
    short, long = (_padded_states(loaded, [ids])[0] for ids in (rows[0].prompt, whole))
    return _agrees(lambda: long[: len(rows[0].prompt)], short)


def _head_is_known(loaded: LoadedModel, row: Row) -> bool:
    """Whether our head gives the logits that the model's own forward pass gives."""
    own = own_logits(loaded, row)
    return _agrees(lambda: loaded.head(hidden_states(loaded, [row], "alone")), own)


def _is_read_at_every_token(loaded: LoadedModel, rows: Sequence[Row]) -> bool:
    """Whether one causal pass and the scalar head give the value of every prefix."""
    score = getattr(loaded.model, "score", None)
    if not isinstance(score, torch.nn.Linear) or not _is_causal(loaded, rows):
        return False
    padding = loaded.model.config.get_text_config().pad_token_id
    sequence = np.concatenate([rows[0].prompt, rows[0].branches[0]])
    sequence = np.where(sequence == padding, (sequence + 1) % loaded.vocab_size, sequence)
    if padding is None or not 0 <= padding < loaded.vocab_size:
        return _is_read_at(loaded, sequence, -1)
    padded = np.append(sequence, np.int32(padding))
    if _is_read_at(loaded, padded, -2):
        loaded.skipped_padding = padding
        return _is_read_at(loaded, sequence, -1)
    return _is_read_at(loaded, padded, -1)


def _is_read_at(loaded: LoadedModel, sequence: np.ndarray, place: int) -> bool:
    """Whether the model's own forward pass gives the value at this place of a sequence."""
    own = loaded.model(input_ids=_tensor(sequence[None], loaded)).logits[0, 0].float()
    read = loaded.values(_padded_states(loaded, [sequence])[0])
    tolerance = PROBE_TOLERANCE.get(loaded.dtype, 0.1) * float(read.std().clamp(min=1e-12))
    return abs(float(read[place] - own)) <= tolerance


def _positions_depend_on_length(loaded: LoadedModel) -> bool:
    """Whether the rotary embedding changes with the longest position of a batch."""
    parameters = getattr(loaded.model.config.get_text_config(), "rope_parameters", None) or {}
    nested = [value for value in parameters.values() if isinstance(value, dict)] or [parameters]
    return any(one.get("rope_type") in ("dynamic", "longrope") for one in nested)
