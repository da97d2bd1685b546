"""The one training loop, of all methods: from the first update to the last, in one process or in many.

    for every update:
        examples of this process                      the method
        what the losses are divided by                summed over processes
        for every part that fits the token budget:    loss, backward
        gradients                                     summed over processes, clipped
        step
        a point of every curve; now and then an evaluation, a checkpoint

The batch is split by tokens and over processes, and the losses of all parts add up to that of the batch: the
split changes nothing but rounding. Weights are replicated in every process. An update is a function of the
weights, the moments and its number, so that a training goes on from a checkpoint as if it had never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import Accelerator

from engine.errors import EngineError
from engine.training.checkpoints import Best, Checkpoints, CheckpointState, bytes_of
from engine.training.method_loop import E, MethodLoop, Shard, Sums
from engine.training.reports import CheckpointSaved, MetricPoints, TrainingBegins
from engine.training.request import TrainingRequest
from engine.training.schedule import learning_rate_at
from engine.training.trained_model import TrainedModel
from engine.types import Progress

REPORT_SECONDS = 0.5
"""Points of curves are reported at most this often."""


class Diverged(EngineError):
    """Loss or gradients are no numbers any more. Nothing of that update was kept."""

    code = "diverged"


Reporting = Callable[..., None]
"""How the loop says what happens: report(progress, chunk, message), as `jobs.protocol` has it. It
may raise to stop the loop."""
FurtherFigures = Callable[[TrainedModel], Mapping[str, float]]
"""Further figures of the model as it is now, such as success on a task suite; from the first process."""


@dataclass(slots=True)
class Outcome:
    """What a training left."""

    steps: int
    seconds: float
    tokens: int
    """Read for updates, prompts included, over all attempts."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The last value of every curve."""
    best: Best | None = None


def train(
    method: MethodLoop[E],
    model: TrainedModel,
    request: TrainingRequest,
    folder: Path,
    report: Reporting,
    *,
    resolved: Mapping[str, Any],
    further: FurtherFigures | None = None,
) -> Outcome:
    """Trains until the last step of the resolved request, from the latest checkpoint in `folder` if there is
    one.

    Raises Diverged, ResourceError (disk), and whatever `report` raises to stop it.
    """
    return _Training(method, model, request, folder, report, further).run(resolved)


class _Training:
    def __init__(
        self,
        method: MethodLoop[Any],
        model: TrainedModel,
        request: TrainingRequest,
        folder: Path,
        report: Reporting,
        further: FurtherFigures | None,
    ) -> None:
        self._accelerator = Accelerator(cpu=model.loaded.device.type == "cpu", mixed_precision="no")
        self._shard = Shard(self._accelerator.process_index, self._accelerator.num_processes)
        self._method, self._model, self._request, self._further = method, model, request, further
        self._parameters = model.named_parameters()
        self._optimiser = _optimiser(self._parameters, request, model.loaded.device)
        self._checkpoints = Checkpoints(folder / "checkpoints", keep=request.keeping.keep)
        self._curves = _Curves(report, request)
        self._report = report
        self._state = CheckpointState(0)

    def run(self, resolved: Mapping[str, Any]) -> Outcome:
        """Every update that is left."""
        latest = self._checkpoints.latest()
        if latest is not None:
            self._state = self._checkpoints.load(latest, self._model, self._optimiser)
            self._method.restore(self._state.method)
        steps = self._request.optimisation.steps
        assert steps is not None, "the request is resolved"
        began, first = time.monotonic(), self._state.step
        self._report(Progress("training", first, steps, "steps"), TrainingBegins(first, steps, resolved))
        self._curves.begin(first)
        if latest is not None:
            self._report_checkpoint(
                latest, self._state
            )  # It may have been written without having been reported.
        if first == 0:
            self._evaluate(0)
        for update in range(first, steps):
            self._update(update)
            if self._is_due(update + 1, self._request.keeping.evaluate_every):
                self._evaluate(update + 1)
            if self._is_due(update + 1, self._request.keeping.checkpoint_every):
                self._save(update + 1)
        self._curves.flush()
        return Outcome(
            steps, time.monotonic() - began, self._state.tokens, self._curves.last, self._state.best
        )

    # --------------------------------------------------------------------------------------- one update

    def _update(self, update: int) -> None:
        optimisation = self._request.optimisation
        began = time.monotonic()
        torch.manual_seed(optimisation.seed + 1_000_003 * update)  # What an adapter's dropout draws.
        with torch.no_grad():
            examples = self._method.examples(update, self._model, self._shard)
        totals = self._summed(self._method.totals(examples))
        loss, sums = 0.0, Sums()
        for part in parts(examples, optimisation.token_budget):
            found = self._method.loss(self._model, part, totals)
            loss += float(found.loss.detach())
            sums = added(sums, found.sums)
            if found.loss.requires_grad:
                found.loss.backward()  # type: ignore[no-untyped-call]
        tokens = sum(one.tokens for one in examples)
        summed = self._summed_sums(added(sums, {"train/loss": (loss, 0.0), "tokens": (float(tokens), 0.0)}))
        self._check(update, "loss", summed["train/loss"][0])
        norm = self._reduce_and_clip()
        self._check(update, "norm of the gradient", norm)
        rate = learning_rate_at(update, optimisation)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        read = int(summed.pop("tokens")[0])
        self._state = _moved(self._state, update + 1, read)
        seconds = max(time.monotonic() - began, 1e-9)
        self._curves.add(
            update + 1,
            means(summed)
            | {"train/gradient_norm": norm, "train/learning_rate": rate}
            | {"system/tokens_per_second": read / seconds}
            | _memory(self._model.loaded.device),
        )

    def _check(self, update: int, what: str, value: float) -> None:
        if math.isfinite(value):
            return
        self._optimiser.zero_grad(set_to_none=True)
        self._curves.flush()
        kept = self._checkpoints.kept_steps()
        left = f"The checkpoint of step {kept[-1]:,} is kept" if kept else "There was no checkpoint before it"
        raise Diverged(
            f"The {what} is {value} at step {update + 1:,}: the training has diverged. {left}. Take a lower "
            "learning rate, a longer warmup or a smaller max grad norm, and look for rows that are odd."
        )

    def _reduce_and_clip(self) -> float:
        """Gradients summed over processes and clipped; their norm before that."""
        gradients = []
        for parameter in self._parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        if self._shard.of > 1:
            for bucket in _buckets(gradients):
                flat = torch.cat([one.flatten() for one in bucket])
                summed = self._accelerator.reduce(flat, "sum")
                for one, part in zip(bucket, summed.split([b.numel() for b in bucket]), strict=True):
                    one.copy_(part.view_as(one))
        norm = torch.nn.utils.clip_grad_norm_(
            list(self._parameters.values()), self._request.optimisation.max_gradient_norm
        )
        return float(norm)

    # ---------------------------------------------------------------------------- evaluations and checkpoints

    def _is_due(self, step: int, every: int | None) -> bool:
        """Every so many steps, on a border between rollout phases, and at the end."""
        assert every is not None, "the request is resolved"
        border = self._method.updates_per_rollout_phase
        if step == self._request.optimisation.steps:
            return True
        return step % border == 0 and step // every > (step - border) // every

    def _evaluate(self, step: int) -> None:
        with torch.no_grad():
            figures = means(self._summed_sums(self._method.evaluate(self._model, self._shard)))
            if self._further is not None and self._shard.rank == 0:
                figures |= self._further(self._model)
        self._curves.add_evaluation(step, figures)
        best = self._state.best
        wanted = self._request.keeping.best_by
        if step and wanted in figures and (best is None or _is_better(wanted, figures[wanted], best.value)):
            best = Best(step, figures[wanted])
        self._state = CheckpointState(self._state.step, figures, self._state.method, best, self._state.tokens)

    def _save(self, step: int) -> None:
        """A checkpoint, reported after the points before it: none is ever missing."""
        self._curves.flush()
        self._state = CheckpointState(
            step, self._state.metrics, dict(self._method.state()), self._state.best, self._state.tokens
        )
        self._accelerator.wait_for_everyone()
        if self._shard.rank == 0:
            self._report_checkpoint(
                self._checkpoints.save(self._model, self._optimiser, self._state), self._state
            )
        self._accelerator.wait_for_everyone()

    def _report_checkpoint(self, place: Path, state: CheckpointState) -> None:
        self._report(
            chunk=CheckpointSaved(
                step=state.step,
                path=str(place),
                bytes=bytes_of(place),
                metrics=state.metrics,
                is_best=state.best is not None and state.best.step == state.step,
                kept=self._checkpoints.kept_steps(),
            )
        )

    # ------------------------------------------------------------------------------------ over processes

    def _summed(self, values: Mapping[str, float]) -> dict[str, float]:
        if self._shard.of == 1:
            return dict(values)
        names = sorted(values)
        tensor = torch.tensor([values[name] for name in names], dtype=torch.float64)
        summed = self._accelerator.reduce(tensor.to(self._accelerator.device), "sum")
        return dict(zip(names, summed.tolist(), strict=True))

    def _summed_sums(self, sums: Sums) -> Sums:
        """Sums and weights over all processes, of which some may have seen no example."""
        if self._shard.of == 1:
            return sums
        from accelerate.utils import gather_object

        everywhere: Sums = {}
        for one in gather_object([sums]):
            everywhere = added(everywhere, one)
        return everywhere


class _Curves:
    """Points that were not reported yet, and the last value of each curve."""

    def __init__(self, report: Reporting, request: TrainingRequest) -> None:
        self._report = report
        self._steps = request.optimisation.steps
        self._points: dict[str, list[tuple[int, float]]] = {}
        self._start = self._step = 0
        self._told_at = time.monotonic()
        self.last: dict[str, float] = {}

    def begin(self, step: int) -> None:
        self._start = self._step = step

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Points of the update after which `step` are done; reported when some time has passed."""
        self._step = step
        self._append(step, values)
        if time.monotonic() - self._told_at > REPORT_SECONDS:
            self.flush()

    def add_evaluation(self, step: int, values: Mapping[str, float]) -> None:
        """Points of an evaluation after `step` updates."""
        self._append(step, values)

    def flush(self) -> None:
        """Reports what was not reported."""
        if self._points:
            chunk = MetricPoints(self._start, self._step, self._points)
            self._report(Progress("training", self._step, self._steps, "steps"), chunk)
        self._points, self._start, self._told_at = {}, self._step, time.monotonic()

    def _append(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if math.isfinite(value):
                self._points.setdefault(name, []).append((step, value))
                self.last[name] = value


# ------------------------------------------------------------------------------------------------- the parts


def parts(examples: Sequence[E], token_budget: int) -> Iterator[list[E]]:
    """The examples, by length, in parts of at most `token_budget` tokens each; a longer example is a part."""
    part: list[E] = []
    used = 0
    for one in sorted(examples, key=lambda example: example.tokens):
        if part and used + one.tokens > token_budget:
            yield part
            part, used = [], 0
        part.append(one)
        used += one.tokens
    if part:
        yield part


def added(one: Sums, other: Sums) -> Sums:
    """Sums and weights of both together."""
    result = dict(one)
    for name, (total, weight) in other.items():
        before = result.get(name, (0.0, 0.0))
        result[name] = before[0] + total, before[1] + weight
    return result


def means(sums: Sums) -> dict[str, float]:
    """Each metric as a number; what has no weight is its own sum."""
    return {name: total / weight if weight else total for name, (total, weight) in sums.items()}


BUCKET_NUMBERS = 2**24
"""Numbers that are summed over processes in one call."""


def _buckets(gradients: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    bucket: list[torch.Tensor] = []
    used = 0
    for one in gradients:
        if bucket and used + one.numel() > BUCKET_NUMBERS:
            yield bucket
            bucket, used = [], 0
        bucket.append(one)
        used += one.numel()
    if bucket:
        yield bucket


def _optimiser(
    parameters: Mapping[str, torch.nn.Parameter], request: TrainingRequest, device: torch.device
) -> torch.optim.Optimizer:
    """AdamW; biases and norms do not decay."""
    optimisation = request.optimisation
    matrices = [one for one in parameters.values() if one.dim() > 1]
    others = [one for one in parameters.values() if one.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": optimisation.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=optimisation.learning_rate or 0.0,
        betas=optimisation.adam_betas,
        fused=device.type in ("cpu", "cuda"),
    )


def _moved(state: CheckpointState, step: int, tokens: int) -> CheckpointState:
    return CheckpointState(step, state.metrics, state.method, state.best, state.tokens + tokens)


def _is_better(metric: str, value: float, best: float) -> bool:
    return value < best if metric.endswith(("loss", "kl", "nll")) else value > best


_PROCESS = psutil.Process()


def _memory(device: torch.device) -> dict[str, float]:
    found = {"system/memory_bytes": float(_PROCESS.memory_info().rss)}
    if device.type == "cuda":
        found["system/gpu_memory_bytes"] = float(torch.cuda.max_memory_allocated(device))
    return found
