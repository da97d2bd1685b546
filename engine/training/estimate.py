"""How much memory a training will need, from files alone. Imports no torch.

    weights      4 bytes a parameter, adapters included
    gradients    4 bytes a trained parameter
    optimiser    8 bytes a trained parameter (Adam's two moments)
    activations  what the layers keep of every token of one pass, and the head's tile of logits
    frozen       reference, scorer, reward model: 4 bytes a parameter, 2 in bfloat16
    process      Python and its libraries

An estimate, not a bound: measured, it lies within a third on the architectures that were tried.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.model_files import ModelInfo
from engine.training.request import TrainingRequest

PROCESS_BYTES = 700 * 2**20
HEAD_TILE_BYTES = 4 * 64 * 2**20
"""Logits of one tile, their gradient, and what is made of them."""
NUMBERS_A_HIDDEN = 14
"""Numbers that the backward pass needs of a layer for every token, in multiples of the width ..."""
NUMBERS_AN_INTERMEDIATE = 4
"""... and of the width of its feed-forward part."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes, of one process."""

    weights: int
    gradients: int
    optimiser: int
    activations: int
    frozen: int
    process: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimiser + self.activations + self.frozen + self.process


@dataclass(frozen=True, slots=True)
class _Shape:
    layers: int
    hidden: int
    intermediate: int


def estimate(
    request: TrainingRequest, model: ModelInfo, frozen: Sequence[ModelInfo], longest_tokens: int
) -> MemoryEstimate:
    """The memory of a training.

    frozen: every other model, each once; longest_tokens: of a prompt with both its responses.
    """
    shape = _shape(model)
    trained = model.parameters
    if request.lora is not None:
        # Two low-rank factors at each of the seven products of a layer.
        widths = 4 * 2 * shape.hidden + 3 * (shape.hidden + shape.intermediate)
        trained = request.lora.rank * widths * shape.layers
    adapters = trained if request.lora is not None else 0
    tokens = max(longest_tokens, request.optimisation.token_budget)
    width = 2 if request.optimisation.precision == "bfloat16" else 4
    return MemoryEstimate(
        weights=4 * (model.parameters + adapters),
        gradients=4 * trained,
        optimiser=8 * trained,
        activations=_activations(request, shape, tokens, width) + HEAD_TILE_BYTES,
        frozen=sum(width * one.parameters for one in frozen),
        process=PROCESS_BYTES,
    )


def _activations(request: TrainingRequest, shape: _Shape, tokens: int, width: int) -> int:
    layer = NUMBERS_A_HIDDEN * shape.hidden + NUMBERS_AN_INTERMEDIATE * shape.intermediate
    if request.optimisation.activation_checkpointing:
        return width * tokens * (shape.layers * shape.hidden + layer)
    return width * tokens * shape.layers * layer


def _shape(model: ModelInfo) -> _Shape:
    """Of the configuration, in the words of the architectures that transformers knows."""
    config: dict[str, Any] = json.loads((model.folder / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config") or config

    def number(*names: str) -> int | None:
        return next((int(config[name]) for name in names if isinstance(config.get(name), int)), None)

    hidden = number("hidden_size", "n_embd", "d_model", "dim") or 1024
    layers = number("num_hidden_layers", "n_layer", "num_layers", "n_layers") or 24
    intermediate = number("intermediate_size", "n_inner", "ffn_dim", "d_ff") or 4 * hidden
    return _Shape(layers, hidden, intermediate)
