"""What a training will do, known before it starts: its rows, steps and memory, and what speaks against it."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace

from sqlalchemy import Text, cast, func, select
from sqlalchemy.orm import Session

from app.db.tables import Model, Pair, StoredMap
from app.errors import Invalid, Problem, StorageFull, problems_of
from app.services.datasets.datasets import check_disk
from app.services.models.models import reference_of
from app.services.runs import workers
from app.services.trainings.checks import (
    RowCounts,
    check_brought_rewards,
    check_entropies,
    check_models,
    check_part,
    chosen_rewards,
    is_masked,
    usable_rows,
)
from app.services.trainings.kept import made_by
from app.services.trainings.requests import Asked, TrainingBody, find_datasets, find_models, find_suites
from app.settings import MIB, Settings
from engine.default_rules import BEFORE_REWARDS, ONCE_SCORED, STATED, MadeRule
from engine.errors import RequestError
from engine.model_files import ModelInfo, inspect_model
from engine.sources import SOURCES
from engine.training.checks import check_training
from engine.training.estimate import MemoryEstimate, estimate
from engine.training.request import TrainingRequest
from engine.training.resolve import Split, resolve, split

CHARACTERS_A_TOKEN = 3
"""A careful guess for text that nobody has cut into tokens yet."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A training that was asked for, checked and resolved."""

    asked: Asked
    resolved: TrainingRequest
    """With nothing left open that data and model size decide."""
    rows: RowCounts
    split: Split
    warnings: list[str]
    remarks: list[str]
    """Those of the warnings that the job does not know of."""
    reason: str
    """Why the mask's rule is what it is; '' where nothing is masked."""
    memory: MemoryEstimate
    memory_needed: int
    """Bytes that a worker must have: of all processes that share its memory."""
    largest_worker_bytes: int | None
    """Memory of the largest live worker that may do it; None while none states its own."""
    disk_needed: int
    """Bytes of the checkpoints that are kept at a time, and of the final model."""
    disk_free: int
    """Bytes that may be filled where runs lie."""

    @property
    def steps(self) -> int:
        """Updates that it will make."""
        steps = self.resolved.optimisation.steps
        assert steps is not None, "a resolved request states its steps"
        return steps

    def troubles(self) -> list[Invalid | StorageFull]:
        """What no machine that is there has room for."""
        found: list[Invalid | StorageFull] = []
        if self.largest_worker_bytes is not None and self.memory_needed > self.largest_worker_bytes:
            found.append(self._too_large())
        if self.disk_needed > self.disk_free:
            found.append(
                StorageFull(
                    f"Checkpoints and model will need about {_size(self.disk_needed)}, and where runs lie "
                    f"{_size(max(0, self.disk_free))} are left; make room there, keep fewer checkpoints, "
                    "or train LoRA adapters."
                )
            )
        return found

    def check_room(self) -> None:
        """Raises Invalid where it fits no worker, and StorageFull where its checkpoints fit no disk."""
        for trouble in self.troubles():
            raise trouble

    def _too_large(self) -> Invalid:
        parts = {
            "weights": self.memory.weights,
            "gradients": self.memory.gradients,
            "optimiser": self.memory.optimiser,
            "activations": self.memory.activations,
            "frozen models": self.memory.frozen,
        }
        shares = ", ".join(f"{name} {_size(size)}" for name, size in parts.items() if size)
        assert self.largest_worker_bytes is not None
        return Invalid(
            f"This training needs about {_size(self.memory_needed)} ({shares}), and the largest worker has "
            f"{_size(self.largest_worker_bytes)}; {self._advice()}, or start a worker on a larger machine.",
            code="too_large",
            errors=[
                Problem(("body", "optimisation", "token_budget"), "needs more memory than any worker has")
            ],
        )

    def _advice(self) -> str:
        """What would save most."""
        memory, request = self.memory, self.resolved
        if memory.activations > memory.weights + memory.gradients + memory.optimiser:
            if not request.optimisation.activation_checkpointing:
                return "turn activation checkpointing on, or lower the token budget"
            return "lower the token budget, or the max response length"
        return "train LoRA adapters instead of all weights" if request.lora is None else "use a smaller model"


def make_plan(session: Session, settings: Settings, body: TrainingBody) -> Plan:
    """The plan of a training. Raises NotFound (data set), Invalid (with the field), ModelError, Forbidden,
    StorageFull (the disk is full already); room for it is the plan's to check."""
    check_disk(settings)
    datasets = find_datasets(session, body)
    models = find_models(session, settings, body)
    model = models["model"]
    assert model is not None, "a training names its model"
    check_models(models, body.supervision)
    asked = Asked(body, datasets[0], datasets[1:], models, find_suites(session, settings, body), None, None)
    run, source = chosen_rewards(session, body, model)
    asked = replace(asked, scoring_run=run, source=source)
    request = asked.request()
    warnings = _checked(request, has_rewards=run is not None)
    if run is None:
        check_brought_rewards(request, asked.datasets)
    rows = usable_rows(session, body.method, asked.datasets)
    remarks = _own_pairs(session, asked)
    if rows.unusable:
        warnings.append(
            f"{rows.unusable} of {sum(rows)} rows lack a response that is needed, and are left out."
        )
    made = made_by(session, run, source) if run is not None and source is not None else None
    base = None if made is None else made.rule
    resolved = resolve(request, rows=rows.usable, parameters=model.parameters or 0, base=base)
    check_part(resolved, rows.usable)
    check_entropies(run, resolved)
    memory = _memory(session, asked, resolved)
    shared = resolved.machine.processes if resolved.machine.device == "cpu" else 1
    return Plan(
        asked=asked,
        resolved=resolved,
        rows=rows,
        split=split(resolved, rows.usable),
        warnings=[*remarks, *warnings],
        remarks=remarks,
        reason=_reason(resolved, made, is_stated=body.supervision.rule is not None),
        memory=memory,
        memory_needed=memory.total * shared,
        largest_worker_bytes=workers.largest_memory(session, resolved.machine.device),
        disk_needed=_disk(resolved, memory),
        disk_free=_free(settings),
    )


def _reason(resolved: TrainingRequest, made: MadeRule | None, *, is_stated: bool) -> str:
    if not is_masked(resolved.supervision):
        return ""
    if is_stated:
        return STATED
    if made is not None:
        return made.reason
    return BEFORE_REWARDS if resolved.method.samples else ONCE_SCORED


def memory_parts(memory: MemoryEstimate) -> dict[str, int]:
    """The estimate in bytes by what they are for, and in all."""
    return {**asdict(memory), "total": memory.total}


def _checked(request: TrainingRequest, *, has_rewards: bool) -> list[str]:
    """What the engine warns of. Raises Invalid, with the field that is at fault, where it refuses."""
    try:
        return check_training(request, has_rewards=has_rewards)
    except RequestError as error:
        raise Invalid(str(error), code=error.code, errors=problems_of(error)) from error


def _memory(session: Session, asked: Asked, resolved: TrainingRequest) -> MemoryEstimate:
    model = _info(asked.model)
    frozen: dict[str, Model] = {}
    if resolved.method.reads_reference and (asked.models["reference"] is not None or resolved.lora is None):
        reference = asked.models["reference"] or asked.model
        frozen[reference.path] = reference
    if asked.scoring_run is None and (scorer := asked.models["scorer"]) is not None:
        base = asked.models["scorer_reference"] or asked.models["reference"] or asked.model
        frozen |= {scorer.path: scorer, base.path: base}
    if (reward_model := asked.models["reward_model"]) is not None:
        frozen[reward_model.path] = reward_model
    return estimate(resolved, model, [_info(one) for one in frozen.values()], _longest(session, asked, model))


def _info(model: Model) -> ModelInfo:
    return inspect_model(reference_of(model))


def _longest(session: Session, asked: Asked, model: ModelInfo) -> int:
    """About how many tokens the longest row has, with both responses."""
    data, most = asked.body.data, model.context or 2**31
    if asked.scoring_run is not None:
        query = select(func.max(StoredMap.tokens + StoredMap.prompt_tokens)).where(
            StoredMap.run_id == asked.scoring_run.id
        )
        found = session.scalar(query) or 0
    else:
        prompt = func.length(func.coalesce(Pair.prompt, cast(Pair.messages, Text)))
        sides = [func.coalesce(func.length(side), 0) for side in (Pair.chosen, Pair.rejected)]
        query = select(func.max(prompt + func.greatest(*sides))).where(
            Pair.dataset_id.in_([one.id for one in asked.datasets])
        )
        found = -(-(session.scalar(query) or 0) // CHARACTERS_A_TOKEN)
    if data.max_prompt_tokens is not None:
        found = min(found, data.max_prompt_tokens + data.max_response_tokens)
    return 2 * min(found, most)


def _disk(resolved: TrainingRequest, memory: MemoryEstimate) -> int:
    """Checkpoints that are kept, the best one, and the one that is being written, each with the optimiser's
    numbers; and the final model."""
    trained = memory.gradients if resolved.lora is not None else memory.weights
    return (resolved.keeping.keep + 2) * (trained + memory.optimiser) + memory.weights


def _free(settings: Settings) -> int:
    place = settings.runs_dir
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free - settings.min_free_disk_mib * MIB


def _size(count: float) -> str:
    """A number of bytes as a person reads it."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _own_pairs(session: Session, asked: Asked) -> list[str]:
    """Says where the masks come from a model that learned from the very pairs that it masks."""
    if not is_masked(asked.body.supervision):
        return []
    if asked.scoring_run is not None:
        is_read = asked.source is not None and "policy" in SOURCES[asked.source].needs
        policy = asked.scoring_run.request["policy"] if is_read else None
        scorer = None if policy is None else session.get(Model, policy["id"])
    else:
        scorer = asked.models["scorer"]
    if scorer is None or asked.dataset.content_hash not in scorer.origin.get("data", []):
        return []
    learned, part = scorer.origin["part"], asked.body.data.part
    if learned["end"] <= part.start or part.end <= learned["start"]:
        return []
    return [
        f"The scorer `{scorer.name}` learned from the very pairs that it masks: where they contradict "
        "themselves it has learned that too. Train it on other data, or on another part of these "
        "(`data.part`), and score with that one."
    ]
