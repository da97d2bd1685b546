"""Which rows a training uses, in which order, as tokens.

Every choice is a function of the rows' keys, the request and its seed: a training that is resumed, or shared
by several processes, sees the same batches.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64

from engine.errors import DataError
from engine.formats.canonical import read_pairs
from engine.language_models import LoadedModel
from engine.scoring import check_ids
from engine.tokens import TokenisedResponse, common_prompt, fit, last_tokens_of, tokenise
from engine.training.request import TrainingRequest
from engine.training.resolve import split
from engine.types import PreferencePair, Side

SPARE = 1.05
"""Rows that are drawn beyond those a short training will see, for some may turn out to be too long."""
CHUNK = 512
"""Pairs that are tokenised at a time."""


@dataclass(frozen=True, slots=True)
class ChosenRows:
    """The rows of a training."""

    trained: list[PreferencePair]
    """In the order in which the first epoch draws them; no more than the training can see."""
    held_out: list[PreferencePair]
    usable: int
    """Rows of the data that the method can use."""
    useless: int
    """Rows that lack a side which the method needs."""
    prompts: int
    """How many different prompts the usable rows have."""


@dataclass(frozen=True, slots=True)
class TokenisedPair:
    """A pair as tokens: its sides continue one prompt, of which both see the same end.

    Where a token lies across the seam in one of them, what the prompts have in common is the pair's, and a
    side's own prompt goes on from there."""

    key: str
    pair: PreferencePair
    prompt: Int32[np.ndarray, " prompt"]
    sides: dict[Side, TokenisedResponse]


# ------------------------------------------------------------------------------------------------ which rows


def count_usable(rows: Path, request: TrainingRequest) -> int:
    """How many rows the method can use: pairs, chosen responses or, where it samples, distinct prompts."""
    return len(_places(rows, request).keys)


def choose_rows(rows: Path, request: TrainingRequest) -> ChosenRows:
    """The rows that a resolved request trains on and holds out.

    All usable rows stand in an order that their keys alone decide, so that parts of the same data are
    disjoint whatever the seed: a scorer may learn from one part and mask the other. The end of the request's
    part is held out. Rows with one prompt stay together, so that neither parts nor what is held out share a
    prompt with the rest. Raises DataError where nothing is left to train on.
    """
    places = _places(rows, request)
    groups = places.groups()
    keys = [key for group in groups for key in group]
    borders = np.cumsum([0, *map(len, groups)])
    part = request.data.part
    start, end = (
        int(borders[np.searchsorted(borders, math.floor(share * len(keys)))])
        for share in (part.start, part.end)
    )
    shares = split(request, len(keys))
    last = end if not shares.held_out else _border(borders, start, end, end - shares.held_out)
    trained, held_out = keys[start:last], keys[last:end]
    if not trained:
        raise DataError(_nothing(request, len(keys), places.useless))
    order = np.random.default_rng([request.optimisation.seed, 0]).permutation(len(trained))
    if not request.method.samples:
        steps = request.optimisation.steps
        assert steps is not None, "the request is resolved"
        order = order[: math.ceil(SPARE * steps * request.optimisation.batch_size) + CHUNK]
    wanted = [trained[at] for at in order]
    found = _pairs_with(rows, {*wanted, *held_out})
    return ChosenRows(
        [found[key] for key in wanted],
        [found[key] for key in held_out],
        len(keys),
        places.useless,
        len(groups),
    )


def _border(borders: Int64[np.ndarray, " borders"], start: int, end: int, wanted: int) -> int:
    """Where what is held out begins: after the group of rows that `wanted` is in, or before it where nothing
    would be left; `end` where the whole part has one prompt."""
    after = int(borders[np.searchsorted(borders, wanted)])
    if start < after < end:
        return after
    before = int(borders[np.searchsorted(borders, wanted, side="right") - 1])
    return before if start < before < end else end


def batch_of(update: int, batch_size: int, rows: int, seed: int) -> list[int]:
    """Positions of the rows of update `update`: epochs of all rows, each in an order of its own."""
    first = update * batch_size
    batch: list[int] = []
    while len(batch) < batch_size:
        epoch, at = divmod(first + len(batch), rows)
        batch += _epoch(epoch, rows, seed)[at : at + batch_size - len(batch)].tolist()
    return batch


def _epoch(epoch: int, rows: int, seed: int) -> Int32[np.ndarray, " rows"]:
    if epoch == 0:  # The rows were drawn in this order.
        return np.arange(rows, dtype=np.int32)
    return np.random.default_rng([seed, epoch]).permutation(rows).astype(np.int32)


@dataclass(slots=True)
class _Places:
    keys: list[str]
    useless: int
    prompts: list[int]
    """A number for the prompt of each key."""

    def groups(self) -> list[list[str]]:
        """The keys in the order that they alone decide, those of one prompt together."""
        by_prompt: dict[int, list[str]] = {}
        for _, key, prompt in sorted(
            (_place_of(key), key, prompt) for key, prompt in zip(self.keys, self.prompts, strict=True)
        ):
            by_prompt.setdefault(prompt, []).append(key)
        return list(by_prompt.values())


def _places(rows: Path, request: TrainingRequest) -> _Places:
    """Keys of the usable rows, in the order of the file; of rows with one prompt the first, where the method
    samples."""
    found = _Places([], 0, [])
    prompts: dict[object, int] = {}
    for pair in read_pairs(rows):
        if request.method.samples:
            if pair.prompt in prompts:
                continue
        elif pair.chosen is None or (request.method.learns_from == "pair" and pair.rejected is None):
            found.useless += 1
            continue
        found.keys.append(pair.key)
        found.prompts.append(prompts.setdefault(pair.prompt, len(prompts)))
    return found


def _place_of(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _nothing(request: TrainingRequest, usable: int, useless: int) -> str:
    if usable:
        return (
            f"{usable} usable rows leave none to train on; take a larger part of the data, or hold out less."
        )
    needed = (
        "both a chosen and a rejected response"
        if request.method.learns_from == "pair"
        else "a chosen response"
    )
    return (
        f"None of the {useless} rows has {needed}, which `{request.method.name}` learns from; "
        "choose other data or another method."
    )


def _pairs_with(rows: Path, keys: Collection[str]) -> dict[str, PreferencePair]:
    return {pair.key: pair for pair in read_pairs(rows) if pair.key in keys}


# -------------------------------------------------------------------------------------------------- as tokens


@dataclass(frozen=True, slots=True)
class Tokenised:
    """Pairs as tokens, and those that were left out."""

    pairs: list[TokenisedPair]
    too_long: list[str]
    """Keys of those with a response that is too long."""
    refused: dict[str, str]
    """By the keys of those that cannot be tokenised, such as by a chat template that refuses them: why."""


def tokenise_pairs(
    pairs: Sequence[PreferencePair], loaded: LoadedModel, request: TrainingRequest, *, sides: Sequence[Side]
) -> Tokenised:
    """The pairs with `sides`, each with its EOS. A pair with a response of more tokens than the request
    allows, or than the context leaves beside one token of the prompt, is left out.

    Raises ModelError where the tokenizer makes tokens that the model has no embedding for.
    """
    kept: list[TokenisedPair] = []
    too_long: list[str] = []
    refused: dict[str, str] = {}
    for pair, responses in _responses(pairs, loaded, sides, request.data.template_date, refused):
        check_ids(responses, [loaded])
        one = _pair_of(pair, responses, loaded, request)
        if one is None:
            too_long.append(pair.key)
        else:
            kept.append(one)
    return Tokenised(kept, too_long, refused)


def with_sides(pair: PreferencePair, sides: Collection[Side]) -> PreferencePair:
    """The pair without the sides that are not asked for."""
    return replace(
        pair,
        chosen=pair.chosen if "chosen" in sides else None,
        rejected=pair.rejected if "rejected" in sides else None,
    )


def _responses(
    pairs: Sequence[PreferencePair],
    loaded: LoadedModel,
    sides: Sequence[Side],
    template_date: date | None,
    refused: dict[str, str],
) -> Iterator[tuple[PreferencePair, list[TokenisedResponse]]]:
    """Each pair with its responses as tokens; those that cannot be tokenised are put into `refused`."""

    def read(some: Sequence[PreferencePair]) -> Iterator[tuple[PreferencePair, list[TokenisedResponse]]]:
        try:
            flat = iter(
                tokenise(
                    [with_sides(pair, sides) for pair in some],
                    loaded.tokenizer,
                    append_eos=True,
                    max_response_tokens=2**31 - 1,
                    judged=loaded.info.kind == "sequence_classifier",
                    template_date=template_date,
                )
            )
        except DataError as error:
            if len(some) == 1:
                refused[some[0].key] = str(error)
                return
            for pair in some:
                yield from read([pair])
            return
        for pair in some:
            yield pair, [next(flat) for _ in with_sides(pair, sides).sides()]

    for start in range(0, len(pairs), CHUNK):
        yield from read(pairs[start : start + CHUNK])


def _pair_of(
    pair: PreferencePair,
    responses: Sequence[TokenisedResponse],
    loaded: LoadedModel,
    request: TrainingRequest,
) -> TokenisedPair | None:
    bos = loaded.tokenizer.bos_token_id
    fitted = [fit(one, loaded.info.context, bos) for one in responses]
    longest = request.data.max_response_tokens
    if any(one.seen < len(one.ids) or len(one.ids) > longest for one in fitted):
        return None
    common = common_prompt(responses)
    room = len(common) - max(one.cut_prompt_tokens for one in fitted)
    if room < min(1, len(common)):
        return None
    prompt = last_tokens_of(common, min(room, request.data.max_prompt_tokens or room), bos)
    sides = {
        one.side: replace(one, prompt=np.concatenate([prompt, one.prompt[len(common) :]]))
        for one in responses
    }
    return TokenisedPair(pair.key, pair, prompt, sides)
