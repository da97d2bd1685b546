"""The lab's two scorers, both trained on preferences alone, none of which says where an error is.

The DPO scorer's implicit reward beta (log pi_scorer - log pi_base) finds wrong tokens because its rejected
log-ratios are clipped: one token that has fallen far enough earns nothing more, so the words after it must
bear their share (METHOD section 8). The reward model is trained on the sum of its outputs over the response,
so that its output at a token speaks of that token, and on its output at the EOS, so that the last one speaks
of the whole. [ours]
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from engine.lab.models import Batch, Encoded, lengthwise_batches, logprobs, pad
from engine.lab.pretrain import Tick, warmup_then_cosine

EncodedPair = tuple[Encoded, Encoded]
"""Chosen, rejected."""


def train_dpo_scorer(
    base: LlamaForCausalLM,
    pairs: Sequence[EncodedPair],
    *,
    steps: int = 160,
    batch_pairs: int = 16,
    learning_rate: float = 4e-3,
    beta: float = 0.02,
    clip: float = 4.0,
    anchor: float = 0.05,
    seed: int = 0,
    tick: Tick = lambda done: None,
) -> LlamaForCausalLM:
    """A copy of the base after clipped, anchored DPO.

    L = -log sigmoid(beta (D_w - D_l)) + anchor NLL_w, with D_w = sum_t (l - l_ref) of the chosen tokens and
    D_l = sum_t max(l - l_ref, -clip) of the rejected ones; `clip` in nats, NLL in nats a token. The small
    beta keeps every pair in the loss's straight part: with a larger one, pairs that differ in an easy clause
    stop teaching about the others.
    """
    scorer = copy.deepcopy(base).train()
    optimizer = _adam(scorer, learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_then_cosine(steps))
    batches = _batches(pairs, batch_pairs, seed)
    for step in range(steps):
        batch = pad(_sides(pairs, next(batches)))
        with torch.no_grad():
            reference = logprobs(base, batch)
        policy = logprobs(scorer, batch)
        ratio_chosen, ratio_rejected = (policy - reference).chunk(2)
        margin = ratio_chosen.sum(-1) - ratio_rejected.clamp(min=-clip).sum(-1)  # (pairs,)
        nll = -policy.chunk(2)[0].sum() / batch.counts.chunk(2)[0].sum()
        loss = -logsigmoid(beta * margin).mean() + anchor * nll
        _step(loss, optimizer, scorer)
        schedule.step()
        tick(step + 1)
    return scorer.eval()


def train_reward_model(
    base: LlamaForCausalLM,
    pairs: Sequence[EncodedPair],
    *,
    steps: int = 120,
    batch_pairs: int = 16,
    learning_rate: float = 2e-3,
    centre: float = 0.3,
    seed: int = 0,
    tick: Tick = lambda done: None,
) -> LlamaForSequenceClassification:
    """A sequence classifier with one output V on the base's body.

    L = -log sigmoid(S_w - S_l) - log sigmoid(V_w[EOS] - V_l[EOS]) + centre (mean_t V)^2, with S the sum of
    V_t over the response without its EOS. The last term gives V_t a zero that means neither good nor bad.
    """
    model = _classifier(base).train()
    optimizer = _adam(model, learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_then_cosine(steps))
    batches = _batches(pairs, batch_pairs, seed)
    for step in range(steps):
        batch = pad(_sides(pairs, next(batches)))
        values = token_values(model, batch)
        whole = values.gather(1, batch.last.unsqueeze(1)).squeeze(1)
        counts = batch.counts.scatter(1, batch.last.unsqueeze(1), 0.0)
        summed = (values * counts).sum(-1)
        loss = _bradley_terry(summed) + _bradley_terry(whole)
        loss = loss + centre * ((values * counts).sum() / counts.sum()) ** 2
        _step(loss, optimizer, model)
        schedule.step()
        tick(step + 1)
    return model.eval()


def token_values(model: LlamaForSequenceClassification, batch: Batch) -> Tensor:
    """V_t: the scalar head read after every token, shape (batch, tokens)."""
    hidden = model.model(input_ids=batch.ids).last_hidden_state
    return model.score(hidden).squeeze(-1).float()  # type: ignore[no-any-return]


def _classifier(base: LlamaForCausalLM) -> LlamaForSequenceClassification:
    config = copy.deepcopy(base.config)
    config.num_labels = 1
    config.architectures = ["LlamaForSequenceClassification"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForSequenceClassification(config)
    model.model.load_state_dict(base.model.state_dict())
    torch.nn.init.zeros_(model.score.weight)
    return model


def _adam(model: torch.nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )


def _batches(pairs: Sequence[EncodedPair], size: int, seed: int) -> Iterator[list[int]]:
    lengths = [max(len(chosen.ids), len(rejected.ids)) for chosen, rejected in pairs]
    return lengthwise_batches(lengths, size, random.Random(seed))  # noqa: S311


def _sides(pairs: Sequence[EncodedPair], picked: Sequence[int]) -> list[Encoded]:
    """All chosen sides, then all rejected ones."""
    return [pairs[at][side] for side in (0, 1) for at in picked]


def _bradley_terry(rewards: Tensor) -> Tensor:
    chosen, rejected = rewards.chunk(2)
    return -logsigmoid(chosen - rejected).mean()


def _step(loss: Tensor, optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
