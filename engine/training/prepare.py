"""From a resolved request to a method that the loop can run: rows read, masks cut, frozen models loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.conversations import about_tools
from engine.default_rules import BEFORE_REWARDS, STATED
from engine.errors import DataError
from engine.kept import MaskFigures
from engine.language_models import LoadedModel
from engine.tokens import last_tokens_of, tokenise_prompts
from engine.training.data import ChosenRows, choose_rows, tokenise_pairs
from engine.training.frozen import FrozenModels, load_frozen
from engine.training.loops.offline import OfflineData
from engine.training.loops.on_policy import PromptData
from engine.training.method import Sampling
from engine.training.method_loop import MethodLoop
from engine.training.request import TrainingRequest
from engine.training.rollouts import Prompts
from engine.training.supervision import (
    KeptTokens,
    StoredRewards,
    kept_tokens,
    supervise,
)
from engine.training.trained_model import TrainedModel
from engine.types import SIDES, PreferencePair, Progress, Side

MOST_NAMED = 20
"""Rows that are left out and named in the log."""

ReportProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A method ready for the loop, and sentences on what it will see."""

    loop: MethodLoop[Any]
    request: TrainingRequest
    """With the rule that was made from the rewards, where nobody stated one."""
    mask: dict[str, Any]
    """{source, rule, reason, kept_chosen, kept_rejected, tokens_a_pivot}; empty where nothing is masked."""
    notes: list[str] = field(default_factory=list)
    """For the log."""
    warnings: list[str] = field(default_factory=list)
    """For whoever reads the result."""


def prepare(
    rows: Path,
    request: TrainingRequest,
    model: TrainedModel,
    stored: StoredRewards | None,
    report: ReportProgress,
    *,
    makes_rule: bool = False,
) -> Prepared:
    """The method of a resolved request; `makes_rule` as of `supervise`.

    Raises DataError, RequestError and ModelError.
    """
    report(Progress("reading the rows", 0, None))
    chosen = choose_rows(rows, request)
    method = request.method.declared
    frozen = load_frozen(request, model, needs_reference=request.method.reads_reference)
    notes, warnings = [_about_rows(chosen, request)], _about_tools(chosen, model)
    sampling = request.method.sampled
    if sampling is not None:
        assert method.on_policy is not None, "a method with `sampling` has a loop for it"
        refused: dict[str, str] = {}
        prompts = _prompt_data(request, chosen, frozen, model, sampling, refused)
        notes += list(refused.values())[:MOST_NAMED]
        if not prompts.prompts.keys:
            raise DataError(f"No prompt can be trained on. {_about_refused(refused)[0]}")
        reason = BEFORE_REWARDS if makes_rule else STATED
        mask = _mask_facts(request, reason, MaskFigures(None, None, None))
        return Prepared(method.on_policy(prompts), request, mask, notes, warnings + _about_refused(refused))
    assert method.offline is not None, "a method that samples nothing learns from the data"
    sides: Sequence[Side] = SIDES if request.method.learns_from == "pair" else ("chosen",)
    tokenised = tokenise_pairs([*chosen.trained, *chosen.held_out], model.loaded, request, sides=sides)
    if tokenised.too_long:
        warnings.append(
            f"{len(tokenised.too_long):,} rows are left out, for a response is longer than the context or "
            f"than `max_response_tokens`, {request.data.max_response_tokens:,}."
        )
    notes += list(tokenised.refused.values())[:MOST_NAMED]
    warnings += _about_refused(tokenised.refused)
    left_out = {*tokenised.too_long, *tokenised.refused}
    held_out_keys = {pair.key for pair in chosen.held_out} - left_out
    trained = [one for one in tokenised.pairs if one.key not in held_out_keys]
    held_out = [one for one in tokenised.pairs if one.key in held_out_keys]
    if not trained and tokenised.refused:
        raise DataError(f"No row can be trained on. {_about_refused(tokenised.refused)[0]}")
    if not trained:
        raise DataError(
            "Every row is too long for the context or for `max_response_tokens`; raise it, or choose other "
            "data."
        )
    made = supervise(
        trained,
        request,
        frozen,
        stored,
        lambda done, total: report(Progress("scoring the rows", done, total)),
        makes_rule=makes_rule,
    )
    supervision = request.supervision.model_copy(update={"rule": made.rule})
    request = request.model_copy(update={"supervision": supervision})
    kept = kept_tokens(made.pairs)
    mask = {}
    if made.reason and method.masks:
        mask = _mask_facts(request, made.reason, kept.figures())
        notes += _about_mask(kept, request, made.reason)
        warnings += kept.warnings()
    # Evaluations are compared between masks: no token of it is masked.
    whole = supervise(held_out, _unmasked(request), frozen, None).pairs
    data = OfflineData(made.pairs, whole, request, frozen)
    return Prepared(method.offline(data), request, mask, notes, warnings)


def _about_tools(chosen: ChosenRows, model: TrainedModel) -> list[str]:
    with_tools = sum(pair.brings_tools for pair in (*chosen.trained, *chosen.held_out))
    return about_tools(model.loaded.info.path, model.loaded.tokenizer, with_tools)


def _mask_facts(request: TrainingRequest, reason: str, kept: MaskFigures) -> dict[str, Any]:
    rule = request.supervision.rule
    if rule is None or rule.keeps_everything:
        return {}
    return {
        "source": request.supervision.source,
        "rule": rule.model_dump(mode="json"),
        "reason": reason,
        **kept.as_dict(),
    }


def _prompt_data(
    request: TrainingRequest,
    chosen: ChosenRows,
    frozen: FrozenModels,
    model: TrainedModel,
    sampling: Sampling,
    refused: dict[str, str],
) -> PromptData:
    """The prompts as tokens; those that cannot be tokenised are put into `refused`."""

    def read(pairs: Sequence[PreferencePair]) -> dict[str, np.ndarray]:
        try:
            fitted = _fitted_prompts(pairs, model.loaded, request, sampling)
        except DataError as error:
            if len(pairs) == 1:
                refused[pairs[0].key] = str(error)
                return {}
            return {key: ids for pair in pairs for key, ids in read([pair]).items()}
        return {pair.key: ids for pair, ids in zip(pairs, fitted, strict=True)}

    def prompts(pairs: Sequence[PreferencePair]) -> Prompts:
        ids = read(pairs)
        kept = [pair for pair in pairs if pair.key in ids]
        return Prompts(
            tuple(pair.key for pair in kept),
            tuple(pair.prompt for pair in kept),
            tuple(ids[pair.key] for pair in kept),
        )

    return PromptData(request, prompts(chosen.trained), prompts(chosen.held_out), frozen, model)


def _fitted_prompts(
    pairs: Sequence[PreferencePair], loaded: LoadedModel, request: TrainingRequest, sampling: Sampling
) -> list[np.ndarray]:
    """Prompts that leave room for a whole response, cut from the left."""
    limit = request.data.max_prompt_tokens
    if loaded.info.context is not None:
        room = max(1, loaded.info.context - sampling.max_new_tokens)
        limit = room if limit is None else min(limit, room)
    ids = tokenise_prompts(pairs, loaded.tokenizer, template_date=request.data.template_date)
    bos = loaded.tokenizer.bos_token_id
    return [one if limit is None else last_tokens_of(one, limit, bos) for one in ids]


def _unmasked(request: TrainingRequest) -> TrainingRequest:
    """The same without a rule: every token counts. Segment ends of a reward model are not those of a mask."""
    if request.method.declared.cuts_held_out:
        return request
    return request.model_copy(update={"supervision": request.supervision.model_copy(update={"rule": None})})


# ------------------------------------------------------------------------------------------------ for the log


def _about_rows(chosen: ChosenRows, request: TrainingRequest) -> str:
    what = "prompts" if request.method.samples else "rows"
    sentence = f"{chosen.usable:,} {what} can be used"
    if chosen.useless:
        sentence += f" ({chosen.useless:,} lack a side)"
    if chosen.prompts < chosen.usable:
        sentence += f", with {chosen.prompts:,} prompts, none of them both trained on and held out"
    seen = f"{len(chosen.trained):,} are trained on and {len(chosen.held_out):,} held out"
    return f"{sentence}; {seen}."


def _about_refused(refused: Mapping[str, str]) -> list[str]:
    """A sentence where rows are left out, with the first of the reasons."""
    if not refused:
        return []
    first = next(iter(refused.values()))
    if len(refused) == 1:
        return [f"1 row is left out, for the model's tokenizer or chat template refuses it: {first}"]
    return [
        f"{len(refused):,} rows are left out, for the model's tokenizer or chat template refuses them; the "
        f"log names them. The first: {first}"
    ]


def _about_mask(kept: KeptTokens, request: TrainingRequest, reason: str) -> list[str]:
    rule = request.supervision.rule
    assert rule is not None, "a mask has a rule"
    shares = " and ".join(f"{share:.1%} of the {side} tokens" for side, share in kept.kept.items())
    notes = [
        f"The {request.supervision.density}-wise mask keeps {shares}.",
        f"The rule of `{request.supervision.source}` is {reason}.",
    ]
    nothing = sum(kept.nothing.values())
    if nothing:
        notes.append(f"{nothing:,} responses keep nothing; `{rule.nothing_kept}` says what becomes of them.")
    return notes
