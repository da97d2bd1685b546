"""What the checkpoints of a training say of some pairs: the implicit reward of every token, step by step.

The trained model is read as it began (step 0) and with the weights of each checkpoint; the reference stays
the one of the training. So the rewards of step 0 are zero where the model is its own reference, and those of
a later step say what training has changed about each token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from engine.language_models import load_policy
from engine.ragged import Row
from engine.reading import read_tracks
from engine.requests import ScoreRequest, SourceRequest
from engine.scoring import Models, check_one_tokenizer, fitted
from engine.sources.implicit import implicit_rewards
from engine.tokens import TokenisedResponse
from engine.training.checkpoints import load_weights
from engine.training.reports import Traced, track_of
from engine.training.request import TrainingRequest
from engine.training.trained_model import TrainedModel, load
from engine.types import ModelReference, PreferencePair, RewardMap

FIRST = 0
"""The step of the model as it began."""
Tick = Callable[[int, int], None]
"""Hears how many steps are read, and of how many."""


def trace(
    pairs: Sequence[PreferencePair],
    request: TrainingRequest,
    checkpoints: Mapping[int, Path],
    final: Path | None,
    *,
    steps: int,
    beta: float,
    device: str,
    tick: Tick = lambda done, total: None,
) -> Traced:
    """The pairs, read by the trained model at step 0, at every checkpoint, and as it ended after `steps`.

    `final` is the folder of the model that the training left; it is read only where no checkpoint is of the
    last step. Raises ModelError, DataError where a model or checkpoint cannot be read.
    """
    model = _as_it_began(request, device)
    budget = request.optimisation.token_budget
    asked = ScoreRequest(sources=[SourceRequest(name="implicit")], beta=beta, token_budget=budget)
    responses = fitted(pairs, Models(policy=model.loaded), asked)
    total = 1 + len(checkpoints) + (final is not None and steps not in checkpoints)
    tick(0, total)
    logprobs = {FIRST: _trained_logprobs(model, responses, budget)}
    reference = logprobs[FIRST]
    if request.reference is not None:
        reference = _logprobs_of(request.reference, model, responses, budget)
    for step, folder in sorted(checkpoints.items()):
        tick(len(logprobs), total)
        load_weights(folder, model)
        logprobs[step] = _trained_logprobs(model, responses, budget)
    if final is not None and steps not in checkpoints:
        tick(len(logprobs), total)
        logprobs[steps] = _logprobs_of(ModelReference(path=str(final)), model, responses, budget)
    tick(total, total)
    ordered = sorted(logprobs)
    return Traced(
        steps=ordered,
        maps=[
            _map(one, {step: logprobs[step][at] for step in ordered}, reference[at], beta)
            for at, one in enumerate(responses)
        ],
    )


def _as_it_began(request: TrainingRequest, device: str) -> TrainedModel:
    return load(
        request.model,
        "causal_lm",
        device=device,
        dtype=torch.float32,
        seed=request.optimisation.seed,
        lora=request.lora,
        value_head=request.method.declared.critic,
    )


def _row(one: TokenisedResponse) -> Row:
    return Row(one.prompt, (one.ids[: one.seen],))


def _trained_logprobs(
    model: TrainedModel, responses: Sequence[TokenisedResponse], budget: int
) -> list[Float32[np.ndarray, " response"]]:
    read = model.read_quietly([_row(one) for one in responses], budget)
    return [_whole(one, branch["logprobs"]) for one, [branch] in zip(responses, read, strict=True)]


def _logprobs_of(
    reference: ModelReference, model: TrainedModel, responses: Sequence[TokenisedResponse], budget: int
) -> list[Float32[np.ndarray, " response"]]:
    loaded = load_policy(reference, device=str(model.loaded.device), dtype="float32")
    check_one_tokenizer(model.loaded, loaded)
    read = read_tracks(loaded, [_row(one) for one in responses], budget, with_distribution=False)
    return [_whole(one, branch.logprobs) for one, [branch] in zip(responses, read, strict=True)]


def _whole(one: TokenisedResponse, seen: np.ndarray) -> Float32[np.ndarray, " response"]:
    """NaN where nothing was said: at a first token after no prompt, and beyond the context."""
    track = np.full(len(one.ids), np.nan, dtype=np.float32)
    track[: len(seen)] = seen
    if not len(one.prompt):
        track[:1] = np.nan
    return track


def _map(
    one: TokenisedResponse,
    logprobs: Mapping[int, Float32[np.ndarray, " response"]],
    reference: Float32[np.ndarray, " response"],
    beta: float,
) -> RewardMap:
    rewards = {track_of(step): implicit_rewards(track, reference, beta) for step, track in logprobs.items()}
    totals = {name: float(np.nansum(track, dtype=np.float64)) for name, track in rewards.items()}
    return one.mapped(rewards, totals, reference_logprobs=reference)
