"""The models that a training reads and never changes: the reference, the scorer, the reward model."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from engine.inspection.probe import probe_of
from engine.language_models import Dtype, LoadedModel, load_policy, load_reward_model
from engine.ragged import Row
from engine.reading import read_tracks
from engine.scoring import check_one_tokenizer
from engine.training.request import TrainingRequest
from engine.training.trained_model import TrainedModel
from engine.types import ModelReference


@dataclass(frozen=True, slots=True)
class FrozenModels:
    """What stands beside the trained model. Every one but the reward model has its tokenizer."""

    reference: LoadedModel | None = None
    """None: the trained model itself, with its adapter off."""
    scorer: LoadedModel | None = None
    scorer_reference: LoadedModel | None = None
    reward_model: LoadedModel | None = None

    def reference_logprobs(
        self, model: TrainedModel, rows: Sequence[Row], token_budget: int
    ) -> list[list[Float32[np.ndarray, " response"]]]:
        """Nats of every token of every branch of every row, under the reference."""
        with contextlib.ExitStack() as stack:
            reference = self.reference or stack.enter_context(model.as_reference())
            read = read_tracks(reference, rows, token_budget, with_distribution=False)
        return [[tracks.logprobs for tracks in of_row] for of_row in read]


def load_frozen(request: TrainingRequest, model: TrainedModel, *, needs_reference: bool) -> FrozenModels:
    """The frozen models of a request. Raises ModelError where a tokenizer is another one."""
    dtype: Dtype = "bfloat16" if request.optimisation.precision == "bfloat16" else "float32"
    device = str(model.loaded.device)

    def policy(wanted: ModelReference | None) -> LoadedModel | None:
        if wanted is None:
            return None
        loaded = load_policy(wanted, device=device, dtype=dtype)
        check_one_tokenizer(model.loaded, loaded)
        return loaded

    reference = None
    if needs_reference and (request.reference is not None or request.lora is None):
        reference = policy(request.reference or request.model)
    scorer = policy(request.scorer)
    scorer_reference = None
    if scorer is not None:
        scorer_reference = policy(request.scorer_reference or request.reference or request.model)
    reward_model = None
    if request.reward_model is not None:
        reward_model = load_reward_model(request.reward_model, device=device, dtype=dtype)
        probe_of(reward_model)
    return FrozenModels(reference, scorer, scorer_reference, reward_model)
