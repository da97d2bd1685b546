"""The model that a training ends with, as a folder that any program loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from engine.endings import ends_of_responses
from engine.kept import MaskFigures
from engine.rules import SegmentationRule
from engine.training.checkpoints import whole_folder
from engine.training.request import TrainingRequest
from engine.training.trained_model import TrainedModel

REQUEST = "training.json"
ADAPTER = "adapter"
GENERATION = "generation_config.json"


def save_finished(
    place: Path, model: TrainedModel, request: TrainingRequest, resolved: Mapping[str, Any], figures: str
) -> None:
    """Writes `place` whole: safetensors, configuration, tokenizer, README.md, and the request as
    training.json.

    An adapter is merged into the weights, and stands by itself in `adapter` beside them. A critic's head is
    left out. Raises ResourceError when the disk is full.
    """
    transformers_logging.disable_progress_bar()
    with whole_folder(place) as work:
        own = model.loaded.model
        if request.lora is None:
            own.save_pretrained(work)
        else:
            own.save_pretrained(work / ADAPTER)
            _save_merged(own, work)
        model.tokenizer.save_pretrained(work)
        if model.loaded.info.kind == "causal_lm":
            _name_ends(work / GENERATION, model)
        (work / REQUEST).write_text(json.dumps(resolved, indent=2) + "\n", encoding="utf-8")
        (work / "README.md").write_text(_card(request, resolved, figures), encoding="utf-8")
        for path in work.rglob("*.safetensors"):
            path.chmod(0o644)  # They come as temporary files do, for their owner alone.


def _name_ends(path: Path, model: TrainedModel) -> None:
    """Writes every token that ends a response into the generation settings, so that a server stops there."""
    settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    ends = ends_of_responses(model.tokenizer, model.loaded.info.eos_token_ids)
    if ends:
        settings["eos_token_id"] = ends if len(ends) > 1 else ends[0]
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


@torch.no_grad()
def _save_merged(own: Any, work: Path) -> None:
    """The weights with the adapter added in, under the names that the model has without it."""
    from peft.tuners.lora import LoraLayer

    state = {}
    merged = {name: layer for name, layer in own.named_modules() if isinstance(layer, LoraLayer)}
    for name, tensor in own.state_dict().items():
        if ".lora_" in name:
            continue
        owner, _, kind = name.rpartition(".base_layer.")
        if not owner:
            state[name] = tensor
            continue
        layer = merged[owner]
        is_weight = kind == "weight"
        state[f"{owner}.{kind}"] = tensor + layer.get_delta_weight("default") if is_weight else tensor
    had = own._hf_peft_config_loaded
    own._hf_peft_config_loaded = False  # Or only the adapter would be saved.
    try:
        own.save_pretrained(work, state_dict=state)
    finally:
        own._hf_peft_config_loaded = had


def _masked(mask: Mapping[str, Any]) -> str:
    """What of the responses counts, by which rule and why, and what speaks against it."""
    if not mask:
        return "Every token of a response counts."
    rule, kept = SegmentationRule.model_validate(mask["rule"]), MaskFigures.from_dict(mask)
    sentences = [
        f"Token rewards come from `{mask['source']}`, cut by `{rule.segmenter.name}` at the baseline "
        f"`{rule.baseline}` in units of `{rule.scale}`. The rule is {mask['reason']}."
    ]
    if kept.sentence():
        sentences.append(f"The mask {kept.sentence()}.")
    return " ".join([*sentences, *(f"**{warning}**" for warning in kept.warnings())])


def _card(request: TrainingRequest, resolved: Mapping[str, Any], figures: str) -> str:
    method, optimisation = request.method, request.optimisation
    origin = resolved.get("origin") or {}
    data = origin.get("dataset") or "rows of its own"
    masked = _masked(resolved.get("mask") or {})
    versions = ", ".join(f"{name} {version}" for name, version in resolved.get("versions", {}).items())
    return (
        "---\nlibrary_name: transformers\ntags: [rewardscope, alignment]\n---\n\n"
        f"# {Path(request.model.path).name}, trained by {method.name}\n\n"
        f"Began as `{request.model.path}` and was trained by RewardScope with `{method.name}` on {data}, "
        f"{request.supervision.density}-wise: {optimisation.steps:,} steps of {optimisation.batch_size} at a "
        f"learning rate of {optimisation.learning_rate:g}, seed {optimisation.seed}. {masked}\n\n"
        f"{figures}\n\n"
        f"The whole request stands in `{REQUEST}`: the same request on the same data gives the same curve.\n"
        f"Made with {versions}.\n"
    )
