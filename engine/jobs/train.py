"""Trains a model: rows and a request in, curves, checkpoints and a model out.

Goes on from the latest checkpoint in the run's folder. With several processes a launcher starts them
(`train_processes`), of which the first one speaks.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from engine.default_rules import MadeRule
from engine.errors import RequestError
from engine.formats.maps import read_maps
from engine.jobs.protocol import ReportCallable
from engine.language_models import memory_advice
from engine.rules import SegmentationRule
from engine.segmentation.statistics import RewardStatistics
from engine.training.checks import check_training
from engine.training.data import count_usable
from engine.training.finished import save_finished
from engine.training.loop import FurtherFigures, Outcome, train
from engine.training.prepare import prepare
from engine.training.request import TrainingRequest
from engine.training.resolve import resolve
from engine.training.supervision import StoredRewards
from engine.training.trained_model import TrainedModel, load
from engine.types import Progress

PACKAGES = ("rewardscope", "torch", "transformers", "accelerate", "peft", "numpy", "tokenizers")
"""What computes, and so decides the last digits of a curve."""
FAR_NATS = 1.0
"""KL to the reference, in nats a token, beyond which a training says that it went far."""
OUT_OF_MEMORY = (
    "take a smaller `token_budget`, `activation_checkpointing`, `lora`, or a smaller model; the last "
    "checkpoint is kept."
)


def run(request: dict[str, Any], report: ReportCallable) -> dict[str, Any]:
    """Trains as `request["request"]` says, on the canonical JSONL `request["rows"]`, in `request["folder"]`.

    Also: `rewards` and `statistics` of a scoring run, for the mask, and the rule that was `made` of them;
    `suites` [{"name", "path"}], by which it is evaluated while
    it trains, whether they may run code (`allow_code`); `origin`, for the model's card.
    Returns {"steps", "seconds", "tokens", "model", "best_step", "metrics", "notes", "settled"}.
    Raises RequestError, DataError and ModelError before anything trains, Diverged and ResourceError later on.
    """
    asked = parsed(request.get("request"))
    if asked.machine.processes > 1 and "RANK" not in os.environ:
        from engine.jobs.train_processes import launch

        return launch(request, asked.machine.processes, report)
    return train_here(request, asked, report)


def train_here(request: dict[str, Any], asked: TrainingRequest, report: ReportCallable) -> dict[str, Any]:
    """The training, as this process's part of it."""
    rows, folder = Path(request["rows"]), Path(request["folder"])
    stored = _stored(request)
    asked = _sourced(asked, stored)
    warnings = check_training(asked, has_rewards=stored is not None)
    with memory_advice(OUT_OF_MEMORY), _threads(asked) as threads:
        report(progress=Progress("loading models", 0, None))
        model = _model(asked)
        asked = _judged_by_suite(asked, request)
        is_stated = asked.supervision.rule is not None
        asked = resolve(asked, rows=count_usable(rows, asked), parameters=model.loaded.info.parameters)
        prepared = prepare(
            rows, asked, model, stored, lambda progress: report(progress=progress), makes_rule=not is_stated
        )
        asked = prepared.request
        warnings += prepared.warnings + model.loaded.notes
        for sentence in [*prepared.notes, *warnings]:
            report(message=sentence)
        resolved = _resolved(asked, model, rows, threads, request.get("origin") or {})
        if prepared.mask:
            resolved["mask"] = prepared.mask
        outcome = train(
            prepared.loop,
            model,
            asked,
            folder,
            report,
            resolved=resolved,
            further=_suites(request, asked),
        )
        far = far_from_reference(outcome.metrics)
        if far is not None:
            report(message=far)
            warnings.append(far)
        place = folder / "final"
        if int(os.environ.get("RANK", "0")) == 0:
            report(progress=Progress("saving the model", 0, None))
            save_finished(place, model, asked, resolved, _figures(outcome))
    return {
        "steps": outcome.steps,
        "seconds": round(outcome.seconds, 3),
        "tokens": outcome.tokens,
        "model": str(place),
        "best_step": None if outcome.best is None else outcome.best.step,
        "metrics": outcome.metrics,
        "notes": warnings,
        "settled": resolved,
    }


def _sourced(asked: TrainingRequest, stored: StoredRewards | None) -> TrainingRequest:
    """The request with the first source of the stored rewards, where it names none."""
    if stored is None or asked.supervision.source is not None:
        return asked
    record = next(iter(read_maps(stored.path)), None)
    if record is None or not record["token_rewards"]:
        raise RequestError(f"`{stored.path}` holds no token rewards; score the rows by a source first.")
    source = next(iter(record["token_rewards"]))
    supervision = asked.supervision.model_copy(update={"source": source})
    return asked.model_copy(update={"supervision": supervision})


def far_from_reference(metrics: Mapping[str, float]) -> str | None:
    """A sentence where a policy that samples has gone so far that its rewards mean little."""
    kl = metrics.get("train/kl")
    if kl is None or kl <= FAR_NATS:
        return None
    return (
        f"The policy has gone {kl:.2g} nats a token from its reference, where a frozen model was never asked "
        "what is good: rewards may rise while answers get worse. Trust a task suite, take an earlier "
        "checkpoint, a larger KL coefficient or a lower learning rate."
    )


def _judged_by_suite(asked: TrainingRequest, request: Mapping[str, Any]) -> TrainingRequest:
    """Of a policy that samples the best checkpoint is that of the first suite, where there is one: its own
    reward cannot tell a better answer from one that fools the reward."""
    suites = request.get("suites") or []
    if asked.keeping.best_by is not None or not suites or not asked.method.samples:
        return asked
    keeping = asked.keeping.model_copy(update={"best_by": f"suite/{suites[0]['name']}/all"})
    return asked.model_copy(update={"keeping": keeping})


def parsed(request: Any) -> TrainingRequest:
    """The request. Raises RequestError with the field that is refused."""
    try:
        return TrainingRequest.model_validate(request)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "request"
        raise RequestError(f"The field `{place}` of the training is refused: {first['msg']}.") from error


def _stored(request: Mapping[str, Any]) -> StoredRewards | None:
    if request.get("rewards") is None:
        return None
    statistics = {
        source: RewardStatistics.from_dict(values)
        for source, values in (request.get("statistics") or {}).items()
    }
    made = request.get("made")
    return StoredRewards(
        Path(request["rewards"]),
        statistics,
        made and MadeRule(SegmentationRule.model_validate(made["rule"]), made["reason"]),
    )


def _model(asked: TrainingRequest) -> TrainedModel:
    device = asked.machine.device
    if device == "auto":
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    wants_bfloat16 = asked.optimisation.precision == "bfloat16" or (
        asked.optimisation.precision == "auto" and device.startswith("cuda")
    )
    return load(
        asked.model,
        asked.method.declared.trains,
        device=device,
        dtype=torch.bfloat16 if wants_bfloat16 else torch.float32,
        seed=asked.optimisation.seed,
        lora=asked.lora,
        value_head=asked.method.declared.critic,
        activation_checkpointing=asked.optimisation.activation_checkpointing,
    )


@contextlib.contextmanager
def _threads(asked: TrainingRequest) -> Iterator[int]:
    """The number of threads that the request comes to, while this lasts: part of the result."""
    before = torch.get_num_threads()
    wanted = resolve(asked, rows=1, parameters=_parameters(asked)).machine.threads or before
    torch.set_num_threads(wanted)
    try:
        yield wanted
    finally:
        torch.set_num_threads(before)


def _parameters(asked: TrainingRequest) -> int:
    from engine.model_files import inspect_model

    return inspect_model(asked.model).parameters


def _suites(request: Mapping[str, Any], asked: TrainingRequest) -> FurtherFigures | None:
    """Success on the task suites of the request, as the model is now."""
    suites = request.get("suites") or []
    if not suites:
        return None
    from engine.evaluation.while_training import SuiteEvaluation

    evaluation = SuiteEvaluation(
        {suite["name"]: Path(suite["path"]) for suite in suites},
        seed=asked.optimisation.seed,
        token_budget=asked.optimisation.token_budget,
        allow_code=bool(request.get("allow_code", False)),
    )
    return lambda model: evaluation(model.loaded)


# ---------------------------------------------------------------------------------------------- what is kept


def _resolved(
    asked: TrainingRequest, model: TrainedModel, rows: Path, threads: int, origin: Mapping[str, Any]
) -> dict[str, Any]:
    """All that decides the result, for whoever wants it again."""
    return {
        "request": asked.model_dump(mode="json"),
        "origin": dict(origin),
        "data_hash": _hash(rows),
        "model_fingerprint": model.loaded.info.fingerprint,
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "git_revision": _git_revision(),
        "device": str(model.loaded.device),
        "device_name": _device_name(model.loaded.device),
        "precision": str(model.dtype).removeprefix("torch."),
        "threads": threads,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "parameters": model.loaded.info.parameters,
        "trained_parameters": sum(one.numel() for one in model.named_parameters().values()),
    }


def _hash(rows: Path) -> str:
    digest = hashlib.sha256()
    with rows.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """The commit of the code that runs, where it runs from a checkout; marked where files were changed."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} cores"


def _figures(outcome: Outcome) -> str:
    """The last held-out figures, for the card."""
    figures = {
        name: value for name, value in outcome.metrics.items() if name.startswith(("held_out/", "suite/"))
    }
    if not figures:
        return "Nothing was held out."
    listed = ", ".join(f"{name} {value:.4g}" for name, value in sorted(figures.items()))
    return f"Last figures: {listed}."
