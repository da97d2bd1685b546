"""A tiny policy, a scorer that likes one token more, and reward models, to try on-policy methods on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.training.frozen import FrozenModels, load_frozen
from engine.training.loops.on_policy import PromptData
from engine.training.method_loop import PartLoss, Shard
from engine.training.request import TrainingRequest
from engine.training.resolve import resolve
from engine.training.rollouts import Exchange, Prompts, across_processes
from engine.training.trained_model import TrainedModel, load
from engine.types import ModelReference
from tests.engine.tiny_models import build, byte_tokenizer, write_model

ALONE = Shard(0, 1)
LIKED = 300
"""The token that the scorer likes."""
TEXTS = ("The sky", "Once upon a time", "Two and two", "A small cat", "Der Fuchs", "It liked")


@dataclass(frozen=True)
class World:
    """Folders of models."""

    policy: ModelReference
    scorer: ModelReference
    reward_model: ModelReference
    stranger: ModelReference
    """A reward model with another tokenizer."""


def make_world(folder: Path) -> World:
    tokenizer = byte_tokenizer()
    write_model(folder / "policy", "gpt2", tokenizer)
    scorer = build("gpt2", tokenizer)
    with torch.no_grad():
        liked = scorer.lm_head.weight[LIKED]
        scorer.transformer.ln_f.bias += 3.0 * liked / liked.square().sum()
    scorer.save_pretrained(folder / "scorer")
    tokenizer.save_pretrained(folder / "scorer")
    write_model(folder / "judge", "reward", tokenizer, seed=1)
    write_model(folder / "stranger", "reward", byte_tokenizer(merges=40), seed=2)
    names = ("policy", "scorer", "judge", "stranger")
    return World(*(ModelReference(path=str(folder / name)) for name in names))


@dataclass
class Trial:
    """A loop with its model, as the training loop would hold them."""

    request: TrainingRequest
    model: TrainedModel
    frozen: FrozenModels
    loop: Any

    def gradients(self, parts: Sequence[Sequence[Any]], totals: dict[str, float]) -> dict[str, torch.Tensor]:
        """Gradients of the losses of all parts together."""
        parameters = self.model.named_parameters()
        for one in parameters.values():
            one.grad = None
        for part in parts:
            self.loop.loss(self.model, part, totals).loss.backward()
        return {name: one.grad.clone() for name, one in parameters.items() if one.grad is not None}

    def train(self, updates: range, rate: float = 5e-3) -> list[float]:
        """Takes optimiser steps; the mean reward of the rollouts of each."""
        parameters = list(self.model.named_parameters().values())
        optimiser = torch.optim.Adam(parameters, lr=rate)
        rewards = []
        for update in updates:
            with torch.no_grad():
                examples = self.loop.examples(update, self.model, ALONE)
            optimiser.zero_grad()
            found: PartLoss = self.loop.loss(self.model, examples, self.loop.totals(examples))
            found.loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            total, count = found.sums["train/reward"]
            rewards.append(total / count)
        return rewards


def trial(
    world: World,
    method: dict[str, Any],
    *,
    density: str = "sample",
    source: str = "implicit",
    exchange: Exchange = across_processes,
    texts: Sequence[str] = TEXTS,
    rule: dict[str, Any] | None = None,
    models: dict[str, ModelReference] | None = None,
    lora: dict[str, Any] | None = None,
    **optimisation: Any,
) -> Trial:
    """A loop of a method on the world's prompts."""
    sampling = {"responses": 4, "max_new_tokens": 8} | method.pop("sampling", {})
    request = TrainingRequest.model_validate(
        {
            "method": {**method, "sampling": sampling},
            "supervision": {"density": density, "source": source},
            "optimisation": {"steps": 4, "batch_size": 4, **optimisation},
            "model": world.policy,
            "lora": lora,
            **({"scorer": world.scorer} if models is None else models),
        }
    )
    request = resolve(request, rows=len(texts), parameters=10_000)
    cut = request.supervision.rule
    assert cut is not None
    supervision = request.supervision.model_copy(update={"rule": cut.model_copy(update=rule or {})})
    request = request.model_copy(update={"supervision": supervision})
    declared = request.method.declared
    assert declared.on_policy is not None
    model = load(
        request.model, "causal_lm", device="cpu", dtype=torch.float32, seed=0,
        value_head=declared.critic, lora=request.lora,
    )  # fmt: skip
    frozen = load_frozen(request, model, needs_reference=True)
    asked = prompts(texts, model.tokenizer)
    held_out = prompts(texts[:2], model.tokenizer)
    loop = declared.on_policy(PromptData(request, asked, held_out, frozen, model, exchange))
    return Trial(request, model, frozen, loop)


def prompts(texts: Sequence[str], tokenizer: Any) -> Prompts:
    return Prompts(
        tuple(str(at) for at in range(len(texts))),
        tuple(texts),
        tuple(np.array(tokenizer(text)["input_ids"], np.int32) for text in texts),
    )


def drawn(one: Trial, update: int = 0, shard: Shard = ALONE) -> list[Any]:
    with torch.no_grad():
        examples: list[Any] = one.loop.examples(update, one.model, shard)
    return examples
