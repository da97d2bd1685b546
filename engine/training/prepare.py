"""From a settled request to a method that the loop can run: rows read, masks cut, frozen models loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import DataError
from engine.language_models import LoadedModel
from engine.tokens import tokenise_prompts
from engine.training.checks import needs_pairs, needs_prompts_alone
from engine.training.data import ChosenRows, choose_rows, tokenise_pairs
from engine.training.frozen import FrozenModels, load_frozen
from engine.training.loops.dpo import DpoLoop, as_dpo
from engine.training.loops.likelihood import LikelihoodLoop
from engine.training.loops.offline import OfflineData
from engine.training.loops.reward_model import RewardModelLoop
from engine.training.method_loop import MethodLoop
from engine.training.request import Dpo, Grpo, Ppo, RewardModel, Rjs, Rloo, Sampling, Scorer, TrainingRequest
from engine.training.supervision import StoredRewards, TrainingPair, kept_tokens, supervise
from engine.training.trained_model import TrainedModel
from engine.types import SIDES, PreferencePair, Progress, Side

Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A method ready for the loop, and sentences on what it will see."""

    loop: MethodLoop[Any]
    notes: list[str] = field(default_factory=list)
    """For the log."""
    warnings: list[str] = field(default_factory=list)
    """For whoever reads the result."""


def needs_value_head(request: TrainingRequest) -> bool:
    """Whether a causal LM is given a critic."""
    return isinstance(request.method, Ppo)


def prepare(
    rows: Path, request: TrainingRequest, model: TrainedModel, stored: StoredRewards | None, tell: Tell
) -> Prepared:
    """The method of a settled request. Raises DataError, RequestError and ModelError."""
    tell(Progress("reading the rows", 0, None))
    chosen = choose_rows(rows, request)
    reads_reference = isinstance(request.method, Dpo | Scorer) or needs_prompts_alone(request)
    frozen = load_frozen(request, model, needs_reference=reads_reference)
    notes, warnings = [_about_rows(chosen, request)], []
    if needs_prompts_alone(request):
        return Prepared(_sampling_loop(request, chosen, frozen, model), notes)
    sides: Sequence[Side] = SIDES if needs_pairs(request) else ("chosen",)
    tokenised = tokenise_pairs([*chosen.trained, *chosen.held_out], model.loaded, request, sides=sides)
    left_out = set(tokenised.too_long)
    if left_out:
        warnings.append(
            f"{len(left_out):,} rows are left out, for a response is longer than the context or than "
            f"`max_response_tokens`, {request.data.max_response_tokens:,}."
        )
    held_out_keys = {pair.key for pair in chosen.held_out} - left_out
    trained = [one for one in tokenised.pairs if one.key not in held_out_keys]
    held_out = [one for one in tokenised.pairs if one.key in held_out_keys]
    if not trained:
        raise DataError(
            "Every row is too long for the context or for `max_response_tokens`; raise it, or choose other "
            "data."
        )
    pairs = supervise(
        trained,
        request,
        frozen,
        stored,
        lambda done, total: tell(Progress("scoring the rows", done, total)),
    )
    notes += _about_mask(pairs, request)
    drift = kept_tokens(pairs).warning()
    if drift is not None:
        warnings.append(drift)
    # What is looked at is compared between masks: no token of it is masked.
    whole = supervise(held_out, _unmasked(request), frozen, None)
    data = OfflineData(pairs, whole, request, frozen, reads_reference)
    return Prepared(_offline_loop(data, request), notes, warnings)


def _offline_loop(data: OfflineData, request: TrainingRequest) -> MethodLoop[Any]:
    method = request.method
    if isinstance(method, Dpo | Scorer):
        return DpoLoop(data, as_dpo(method))
    if isinstance(method, RewardModel):
        return RewardModelLoop(data, method)
    return LikelihoodLoop(data)


def _sampling_loop(
    request: TrainingRequest, chosen: ChosenRows, frozen: FrozenModels, model: TrainedModel
) -> MethodLoop[Any]:
    from engine.training.loops.group import GroupLoop
    from engine.training.loops.ppo import PpoLoop
    from engine.training.loops.rjs_sampled import SampledRjsLoop
    from engine.training.rollouts import Prompts

    method, rule, source = request.method, request.supervision.rule, request.supervision.source
    assert rule is not None, "the request is settled"
    assert source is not None
    assert isinstance(method, Ppo | Grpo | Rloo | Rjs)
    sampling = method.sampling
    assert sampling is not None

    def prompts(pairs: Sequence[PreferencePair]) -> Prompts:
        return Prompts(
            tuple(pair.key for pair in pairs),
            tuple(pair.prompt for pair in pairs),
            tuple(_fitted_prompts(pairs, model.loaded, request, sampling)),
        )

    arguments = (request, prompts(chosen.trained), prompts(chosen.held_out), frozen, model, rule, source)
    loops: dict[str, Any] = {"ppo": PpoLoop, "grpo": GroupLoop, "rloo": GroupLoop, "rjs": SampledRjsLoop}
    made: MethodLoop[Any] = loops[method.name](*arguments)
    return made


def _fitted_prompts(
    pairs: Sequence[PreferencePair], loaded: LoadedModel, request: TrainingRequest, sampling: Sampling
) -> list[np.ndarray]:
    """Prompts that leave room for a whole response, cut from the left."""
    limit = request.data.max_prompt_tokens
    if loaded.info.context is not None:
        room = max(1, loaded.info.context - sampling.max_new_tokens)
        limit = room if limit is None else min(limit, room)
    ids = tokenise_prompts(pairs, loaded.tokenizer)
    return [one if limit is None or len(one) <= limit else one[len(one) - limit :] for one in ids]


def _unmasked(request: TrainingRequest) -> TrainingRequest:
    """The same without a rule: every token counts. Segment ends of a reward model are not those of a mask."""
    if isinstance(request.method, RewardModel):
        return request
    return request.model_copy(update={"supervision": request.supervision.model_copy(update={"rule": None})})


# ------------------------------------------------------------------------------------------------ for the log


def _about_rows(chosen: ChosenRows, request: TrainingRequest) -> str:
    what = "prompts" if needs_prompts_alone(request) else "rows"
    told = f"{chosen.usable:,} {what} can be used"
    if chosen.useless:
        told += f" ({chosen.useless:,} lack a side)"
    seen = f"{len(chosen.trained):,} are trained on and {len(chosen.held_out):,} held out"
    return f"{told}; {seen}."


def _about_mask(pairs: Sequence[TrainingPair], request: TrainingRequest) -> list[str]:
    rule = request.supervision.rule
    if request.supervision.density == "sample" or rule is None:
        return []
    kept = kept_tokens(pairs)
    shares = " and ".join(f"{share:.1%} of the {side} tokens" for side, share in kept.kept.items())
    notes = [f"The {request.supervision.density}-wise mask keeps {shares}."]
    nothing = sum(kept.nothing.values())
    if nothing:
        notes.append(f"{nothing:,} responses keep nothing; `{rule.nothing_kept}` says what becomes of them.")
    return notes
