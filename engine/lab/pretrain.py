"""Pretraining of the lab's policy: next-token prediction on noisy answers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import torch
from transformers import LlamaForCausalLM

from engine.lab.models import Encoded, lengthwise_batches, logprobs, pad

Tick = Callable[[int], None]
"""Told how many steps are done."""


def pretrain(
    policy: LlamaForCausalLM,
    documents: Sequence[Encoded],
    *,
    steps: int = 500,
    batch_size: int = 16,
    learning_rate: float = 1e-2,
    seed: int = 0,
    tick: Tick = lambda done: None,
) -> float:
    """Trains the policy in place; returns the mean loss of the last tenth of the steps, in nats a token."""
    optimizer = torch.optim.AdamW(
        policy.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_then_cosine(steps))
    batches = lengthwise_batches([len(d.ids) for d in documents], batch_size, random.Random(seed))  # noqa: S311
    losses = []
    policy.train()
    for step in range(steps):
        batch = pad([documents[at] for at in next(batches)])
        loss = -logprobs(policy, batch).sum() / batch.counts.sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        tick(step + 1)
    policy.eval()
    late = losses[-max(1, steps // 10) :]
    return sum(late) / len(late)


def warmup_then_cosine(steps: int, warmup: float = 0.05, floor: float = 0.05) -> Callable[[int], float]:
    """The factor of the learning rate: up over the first steps, then down a cosine to `floor`."""
    rising = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        progress = (step - rising) / max(1, steps - rising)
        return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2

    return factor
