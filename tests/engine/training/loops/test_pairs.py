"""A method that is one function of a pair trains as one with a loop of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.training.loops.dpo import DpoLoop
from engine.training.loops.pairs import PairLoop
from engine.training.losses.dpo import PairLosses, SideLogprobs, dpo_loss, preference_losses
from engine.training.method_loop import Shard
from engine.training.prepare import prepare
from engine.training.resolve import resolve
from engine.training.trained_model import load
from tests.engine.training.worlds import training, write_world

PLAIN = {"rejected_clip": None, "sft_weight": 0.0, "masked_weight": 0.0}


def dpo(chosen: SideLogprobs, rejected: SideLogprobs) -> PairLosses:
    margins = dpo_loss(
        chosen, rejected, beta=0.1, rejected_clip=None, sft_weight=0.0, dropped_weight=0.0
    ).margins
    differences = (chosen.log_ratios() * chosen.mask).sum(1) - (rejected.log_ratios() * rejected.mask).sum(1)
    return PairLosses(preference_losses(differences, 0.1), margins)


def test_dpo_as_a_function_of_a_pair_is_the_plain_dpo(tmp_path: Path) -> None:
    rows, folder = write_world(tmp_path)
    supervision = {"density": "segment", "source": "spans"}
    request = training(folder, method={"name": "dpo", **PLAIN}, supervision=supervision)
    request = resolve(request, rows=24, parameters=1000)
    model = load(request.model, "causal_lm", device="cpu", dtype=torch.float32, seed=0)
    own = prepare(rows, request, model, None, lambda progress: None).loop
    assert isinstance(own, DpoLoop)
    pairs = PairLoop(own.data, dpo)
    with torch.no_grad():
        for parameter in model.named_parameters().values():
            parameter.mul_(1.01)  # No longer the reference.

    examples = pairs.examples(0, model, Shard(0, 1))
    expected = own.loss(model, examples, own.totals(examples))
    parts = [pairs.loss(model, part, pairs.totals(examples)) for part in (examples[:1], examples[1:])]

    assert sum(part.loss.item() for part in parts) == pytest.approx(expected.loss.item(), rel=1e-5)
    found = pairs.evaluate(model, Shard(0, 1))
    for name, (total, count) in own.evaluate(model, Shard(0, 1)).items():
        assert found[name] == pytest.approx((total, count), rel=1e-4, abs=1e-5)
