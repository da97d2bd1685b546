"""Builds the demo world, and measures what must hold in it: low token rewards point at planted errors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from engine.evaluation.localisation import LocalisationTally, token_labels
from engine.formats.atomic import atomic_file
from engine.formats.canonical import read_pairs
from engine.jobs.protocol import ReportCallable
from engine.lab.build import LabBuild, build
from engine.lab.models import Encoded, encode, logprobs, pad, threads
from engine.lab.scorer import token_values
from engine.lab.success import success_by_part
from engine.lab.world import World
from engine.types import PreferencePair, Progress

BETA = 0.1
"""Of the implicit reward; a factor, so that no figure here depends on it."""
_BATCH_PAIRS = 16


def run(request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
    """Builds the lab below `request["folder"]`, or finds it there.

    Returns the paths `pairs`, `held_out`, `pool`, `suite` (tasks), `base`, `scorer`, `reward_model` (or null)
    and `folder`, how many pairs `pairs` holds (`count`), and with `request["measure"]` the `figures` of
    `measure`.
    """
    made = build(Path(request["folder"]), report)
    return {
        "folder": str(made.folder),
        "pairs": str(made.pairs),
        "held_out": str(made.held_out),
        "pool": str(made.pool),
        "suite": str(made.suite),
        "base": str(made.base),
        "scorer": str(made.scorer),
        "reward_model": None if made.reward_model is None else str(made.reward_model),
        "count": made.settings.world.pairs,
        "figures": figures(made, report) if request.get("measure") else None,
    }


def figures(made: LabBuild, report: ReportCallable) -> dict[str, Any]:
    """What `measure` found, from the build's folder when it was measured before."""
    kept = made.folder / "figures.json"
    if kept.exists():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    report(progress=Progress("measuring", 0, None))
    found = measure(made)
    with atomic_file(kept) as file:
        file.write(json.dumps(found, indent=2).encode() + b"\n")
    report(message=f"Low implicit rewards find wrong tokens with an AUROC of {found['auroc']['all']:.3f}.")
    return found


def measure(made: LabBuild) -> dict[str, Any]:
    """Figures of a build on its conflicting pairs, from plain forward passes.

    `auroc` and `reward_model_auroc`: of finding wrong tokens by low rewards, over `all` responses and for
    each part. `pair_accuracy`: share of the pairs whose chosen response has the higher implicit reward.
    `wrong_tokens`: share of the response tokens that are wrong. `success`: expected success on the task
    suite, of base and scorer, for each part.
    """
    with threads(made.settings.threads):
        return _measure(made)


def _measure(made: LabBuild) -> dict[str, Any]:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(made.base)
    base = LlamaForCausalLM.from_pretrained(made.base).eval()
    scorer = LlamaForCausalLM.from_pretrained(made.scorer).eval()
    pairs = list(read_pairs(made.pairs))
    implicit = implicit_rewards_of(scorer, base, tokenizer, pairs)
    tasks = World(made.settings.world).tasks()
    found = {
        "pairs": len(pairs),
        "auroc": _aurocs(pairs, implicit, tokenizer),
        "pair_accuracy": float(
            np.mean([chosen.sum() > rejected.sum() for chosen, rejected in _by_pair(implicit)])
        ),
        "wrong_tokens": float(np.nanmean(np.concatenate(_labels(pairs, tokenizer)))),
        "success": {
            "base": success_by_part(base, tokenizer, tasks),
            "scorer": success_by_part(scorer, tokenizer, tasks),
        },
    }
    if made.reward_model is not None:
        model = LlamaForSequenceClassification.from_pretrained(made.reward_model).eval()
        found["reward_model_auroc"] = _aurocs(pairs, values_of(model, tokenizer, pairs), tokenizer)
    return found


def implicit_rewards_of(
    policy: LlamaForCausalLM,
    reference: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    pairs: Sequence[PreferencePair],
) -> list[np.ndarray]:
    """beta (log policy - log reference) of every response, chosen before rejected, pair after pair."""
    rewards = []
    for rows in _chunks(_encoded(pairs, tokenizer)):
        batch = pad(rows)
        with torch.no_grad():
            ratio = BETA * (logprobs(policy, batch) - logprobs(reference, batch))
        rewards += [_response(ratio[at], row) for at, row in enumerate(rows)]
    return rewards


def values_of(
    model: LlamaForSequenceClassification, tokenizer: PreTrainedTokenizerFast, pairs: Sequence[PreferencePair]
) -> list[np.ndarray]:
    """The reward model's output after every response token, in the same order."""
    values = []
    for rows in _chunks(_encoded(pairs, tokenizer)):
        with torch.no_grad():
            read = token_values(model, pad(rows))
        values += [_response(read[at], row) for at, row in enumerate(rows)]
    return values


def _aurocs(
    pairs: Sequence[PreferencePair], rewards: Sequence[np.ndarray], tokenizer: PreTrainedTokenizerFast
) -> dict[str, float | None]:
    tallies = {part: LocalisationTally() for part in ("all", "adversarial", "in_distribution")}
    parts = [str(pair.meta["part"]) for pair in pairs for _ in pair.sides()]
    for part, reward, labels in zip(parts, rewards, _labels(pairs, tokenizer), strict=True):
        tallies[part].add(reward, labels)
        tallies["all"].add(reward, labels)
    return {part: tally.result().value for part, tally in tallies.items()}


def _labels(pairs: Sequence[PreferencePair], tokenizer: PreTrainedTokenizerFast) -> list[np.ndarray]:
    responses = [response for pair in pairs for _, response in pair.sides()]
    return [
        token_labels(response.spans, row.offsets)
        for response, row in zip(responses, _encoded(pairs, tokenizer), strict=True)
    ]


def _encoded(pairs: Sequence[PreferencePair], tokenizer: PreTrainedTokenizerFast) -> list[Encoded]:
    return encode(tokenizer, [(str(pair.prompt), one.text) for pair in pairs for _, one in pair.sides()])


def _chunks(rows: Sequence[Encoded]) -> Iterable[Sequence[Encoded]]:
    size = 2 * _BATCH_PAIRS
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _response(track: torch.Tensor, row: Encoded) -> np.ndarray:
    return track[row.prompt_tokens : len(row.ids)].numpy().astype(np.float32)


def _by_pair(rewards: Sequence[np.ndarray]) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    return zip(rewards[::2], rewards[1::2], strict=True)
