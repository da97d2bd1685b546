"""Fills in what a request leaves open: steps, learning rate, checkpoints, the rule. Imports no torch."""

from __future__ import annotations

import math
from datetime import date
from typing import NamedTuple

from engine.rules import SegmentationRule
from engine.training.checks import rewarded_by
from engine.training.request import TrainingRequest

SMALL, LARGE = 2e5, 7e9
"""Parameters of the models for which methods state their learning rates: ours, and what people publish."""
LORA_FACTOR = 10.0
"""Adapters take larger steps than weights."""
EVALUATIONS = 10
"""Checkpoints, and evaluations on held-out rows, of a run that names no number."""
ONE_THREAD_PARAMETERS = 20_000_000
"""Below this size a second thread costs more than it computes."""


class Split(NamedTuple):
    """How many rows are trained on, and how many are held out."""

    trained: int
    held_out: int


def split(request: TrainingRequest, rows: int) -> Split:
    """How `rows` usable rows are shared out."""
    data = request.data
    taken = math.floor(data.part.end * rows) - math.floor(data.part.start * rows)
    held_out = math.ceil(data.held_out * taken) if taken > 1 else 0
    return Split(taken - held_out, held_out)


def resolve(
    request: TrainingRequest, *, rows: int, parameters: int, base: SegmentationRule | None = None
) -> TrainingRequest:
    """The request with nothing left open that data and model size decide.

    rows: usable rows of the data (distinct prompts, for methods that sample). base: the rule that was made
    from the token rewards, where these are known; else the rule is the source's own until they are
    (`supervise`). What is stated stays.
    """
    optimisation = request.optimisation
    trained = max(1, split(request, rows).trained)
    steps = optimisation.steps or max(
        1, math.ceil((optimisation.epochs or 1.0) * trained / optimisation.batch_size)
    )
    every = max(1, steps // EVALUATIONS)
    keeping, machine, supervision = request.keeping, request.machine, request.supervision
    source = rewarded_by(request)
    if source is not None:
        rule = supervision.rule or request.method.declared.rule_for(supervision.density, source, base)
        supervision = supervision.model_copy(update={"source": source, "rule": rule})
    return request.model_copy(
        update={
            "optimisation": optimisation.model_copy(
                update={
                    "steps": steps,
                    "epochs": None,
                    "learning_rate": optimisation.learning_rate or learning_rate(request, parameters),
                }
            ),
            "keeping": keeping.model_copy(
                update={
                    "checkpoint_every": keeping.checkpoint_every or every,
                    "evaluate_every": keeping.evaluate_every or every,
                    "best_by": keeping.best_by or request.method.best_by,
                }
            ),
            "machine": machine.model_copy(
                update={"threads": machine.threads or (1 if parameters < ONE_THREAD_PARAMETERS else None)}
            ),
            "supervision": supervision,
            "data": request.data.model_copy(
                update={"template_date": request.data.template_date or date.today()}
            ),
        }
    )


def learning_rate(request: TrainingRequest, parameters: int) -> float:
    """A rate for the method and the size of the model, with two digits.

    Between the sizes of its two rates it falls by a power of the size [ours].
    """
    small, large = request.method.declared.rates
    share = (math.log(max(parameters, 1)) - math.log(SMALL)) / (math.log(LARGE) - math.log(SMALL))
    rate = small * (large / small) ** min(1.0, max(0.0, share))
    if request.lora is not None:
        rate *= LORA_FACTOR
    return float(f"{rate:.1e}")
