"""The model that is trained, read with gradients: no padding, and no [batch, tokens, vocab] tensor.

It is the same reading that scores (`reading`), kept differentiable. Dropout is off unless an adapter asks for
some: policy and reference must be the same function at the start [ours, as TRL does].
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.errors import ModelError, RequestError
from engine.language_models import LoadedModel, head_weights, load_for_training
from engine.logprobs import TrainedTracks, trained_logprobs
from engine.ragged import Row, recomputing
from engine.reading import batches, hidden_states, own_logits, plan_of
from engine.training.request import Lora
from engine.types import ModelReference


class Readings(NamedTuple):
    """What the trained model says of the branches of rows, laid end to end in their order."""

    logprobs: Tensor | None
    """(sum of len(branch)): nats, float32. Of the first token after an empty prompt without meaning."""
    entropies: Tensor | None
    """(sum of len(branch)): nats, detached; None where they were not asked for."""
    values: Tensor | None
    """(sum of len(branch) + 1): the scalar head after the prompt and after every token, float32."""


class TrainedModel:
    """A causal LM or a reward model with weights that move, as methods read it."""

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        lora: Lora | None = None,
        value_head: bool = False,
        activation_checkpointing: bool = False,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        self.loaded = loaded
        self.dtype = dtype
        self._plan = plan_of(loaded)
        if self._plan == "prefixes":
            raise ModelError(
                f"`{loaded.info.path}` ({loaded.info.architecture}) sees a whole text at once and has no "
                "value at every token; train a reward model on a causal LM instead."
            )
        self.value_head = _value_head(loaded) if value_head else None
        loaded.model.requires_grad_(lora is None)
        if lora is not None:
            _add_adapter(loaded, lora, seed)
        self._has_adapter = lora is not None
        if activation_checkpointing:
            _checkpoint_activations(loaded.model)
        loaded.model.train(activation_checkpointing)
        _set_dropout(loaded.model, active=lora is not None and lora.dropout > 0)

    @property
    def language_model(self) -> Any:
        """The transformers model itself, to sample from."""
        return self.loaded.model

    @property
    def tokenizer(self) -> Any:
        return self.loaded.tokenizer

    def named_parameters(self) -> dict[str, torch.nn.Parameter]:
        """All that is trained, each once, by name; in the same order in every process."""
        named = {name: one for name, one in self.loaded.model.named_parameters() if one.requires_grad}
        if self.value_head is not None:
            named |= {f"value_head.{name}": one for name, one in self.value_head.named_parameters()}
        return named

    @contextlib.contextmanager
    def as_reference(self) -> Iterator[LoadedModel]:
        """The model as it was before training, where adapters are trained: for the reference's readings."""
        assert self._has_adapter, "without an adapter the reference is a model of its own"
        self.loaded.model.disable_adapters()
        try:
            yield self.loaded
        finally:
            self.loaded.model.enable_adapters()

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """While this lasts nothing is dropped out, and afterwards what was before: for sampling, and for
        readings that the losses are compared with."""
        dropping = [one for one in self.loaded.model.modules() if _drops(one)]
        for module in dropping:
            module.eval()
        try:
            yield
        finally:
            for module in dropping:
                module.train()

    def __call__(
        self, rows: Sequence[Row], *, logprobs: bool = True, entropies: bool = False, values: bool = False
    ) -> Readings:
        """What the model says of the branches of `rows`, laid end to end in their order.

        The caller sees to it that the rows fit one pass: they are read at once, but for the few architectures
        that are read a row at a time.
        """
        if self._plan != "alone":
            return self._read(rows, logprobs, entropies, values)
        parts = [self._read([row], logprobs, entropies, values) for row in rows]
        return Readings(*(_joined([part[track] for part in parts]) for track in range(3)))

    def read_quietly(
        self, rows: Sequence[Row], token_budget: int, *, entropies: bool = False, values: bool = False
    ) -> list[list[dict[str, np.ndarray]]]:
        """`logprobs` (and `entropies`, `values`) of every branch of every row, float32, without gradients and
        in passes of at most `token_budget` tokens: what rollouts and evaluations read."""
        tracks: list[list[dict[str, np.ndarray]]] = [[] for _ in rows]
        for batch in batches(rows, token_budget, self._plan):
            with torch.no_grad(), self.still():
                read = self([rows[index] for index in batch], entropies=entropies, values=values)
            at, value_at = 0, 0
            for index in batch:
                for branch in rows[index].branches:
                    part, value_part = (
                        slice(at, at + len(branch)),
                        slice(value_at, value_at + len(branch) + 1),
                    )
                    at, value_at = part.stop, value_part.stop
                    named = {
                        "logprobs": _numpy(read.logprobs, part),
                        "entropies": _numpy(read.entropies, part),
                        "values": _numpy(read.values, value_part),
                    }
                    tracks[index].append({name: track for name, track in named.items() if track is not None})
        return tracks

    def _read(self, rows: Sequence[Row], logprobs: bool, entropies: bool, values: bool) -> Readings:
        # What follows the last token of a branch is asked for by values alone.
        seen = rows if values else [Row(row.prompt, tuple(b[:-1] for b in row.branches)) for row in rows]
        device = self.loaded.device
        lengths = [len(branch) for row in rows for branch in row.branches]
        targets = torch.from_numpy(
            np.concatenate([branch for row in rows for branch in row.branches]).astype(np.int64)
        ).to(device)
        tracks = TrainedTracks(torch.empty(0), None)
        if self._plan == "alone" and logprobs:
            assert len(rows) == 1
            row = Row(rows[0].prompt, tuple(b[:-1] for b in rows[0].branches))
            distribution = own_logits(self.loaded, row).log_softmax(-1)
            tracks = TrainedTracks(
                distribution.gather(1, targets[:, None])[:, 0],
                -(distribution.exp() * distribution).sum(1).detach() if entropies else None,
            )
        states = None
        if values or self._plan != "alone":
            with torch.autocast(device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
                states = hidden_states(self.loaded, seen, self._plan)
        if self._plan != "alone" and logprobs:
            assert states is not None
            before = states[_all_but_last(lengths).to(device)] if values else states
            tracks = trained_logprobs(before, targets, head_weights(self.loaded), with_entropies=entropies)
        return Readings(
            tracks.logprobs if logprobs else None,
            tracks.entropies if logprobs else None,
            self._values(states) if values and states is not None else None,
        )

    def _values(self, states: Tensor) -> Tensor:
        if self.value_head is not None:
            read: Tensor = self.value_head(states.float())[:, 0]
            return read
        if self.loaded.info.kind != "sequence_classifier":
            raise RequestError("This model has no scalar head: values cannot be read from it.")
        return self.loaded.values(states)


def load(
    reference: ModelReference,
    kind: str,
    *,
    device: str,
    dtype: torch.dtype,
    seed: int,
    lora: Lora | None = None,
    value_head: bool = False,
    activation_checkpointing: bool = False,
) -> TrainedModel:
    """The model of a request, in float32 and ready to be trained; `dtype` is that of its products."""
    loaded = load_for_training(
        reference, "sequence_classifier" if kind == "sequence_classifier" else "causal_lm",
        device=device, seed=seed,
    )  # fmt: skip
    return TrainedModel(
        loaded,
        lora=lora,
        value_head=value_head,
        activation_checkpointing=activation_checkpointing,
        dtype=dtype,
        seed=seed,
    )


# ---------------------------------------------------------------------------------------------- what is added


def _value_head(loaded: LoadedModel) -> torch.nn.Linear:
    """A critic that begins with 0 everywhere."""
    head = torch.nn.Linear(loaded.model.config.get_text_config().hidden_size, 1)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    return head.to(loaded.device)


def _add_adapter(loaded: LoadedModel, lora: Lora, seed: int) -> None:
    from peft import LoraConfig
    from transformers.pytorch_utils import Conv1D

    output = next(
        (name for name, one in loaded.model.named_modules() if one is loaded.model.get_output_embeddings()),
        None,
    )
    if output is not None and lora.targets != "all-linear" and output.split(".")[-1] in lora.targets:
        raise RequestError(
            f"LoRA on the output head `{output}` is not supported; leave it out of `lora.targets`."
        )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets if lora.targets == "all-linear" else list(lora.targets),
        exclude_modules=None if output is None else [output],
        bias="none",
        # GPT-2 and its kin keep their weights transposed.
        fan_in_fan_out=any(isinstance(one, Conv1D) for one in loaded.model.modules()),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            loaded.model.add_adapter(config)
        except ValueError as error:
            raise RequestError(
                f"LoRA cannot be added to `{loaded.info.path}`: {str(error).splitlines()[0]} Name other "
                "modules in `lora.targets`."
            ) from error
    if loaded.info.kind == "sequence_classifier":
        loaded.model.score.requires_grad_(True)


def _checkpoint_activations(model: Any) -> None:
    if not model.supports_gradient_checkpointing:
        raise RequestError(
            f"{type(model).__name__} cannot compute activations again; switch `activation_checkpointing` off."
        )
    model.activation_checkpointing_enable({"use_reentrant": False, "context_fn": partial(recomputing, model)})


def _set_dropout(model: Any, *, active: bool) -> None:
    """No dropout, but for that of adapters where it is asked for."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout):
            module.train(active and "lora_dropout" in name)
            if not module.training:
                module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0


def _drops(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Dropout) and module.training and module.p > 0


def weights_of(model: TrainedModel) -> Mapping[str, Tensor]:
    """The trained weights, by name, as they are now."""
    return {name: one.detach() for name, one in model.named_parameters().items()}


def _all_but_last(lengths: Sequence[int]) -> Tensor:
    """Of readings of len + 1 a branch, laid end to end, the places of all but each branch's last."""
    kept, at = [], 0
    for length in lengths:
        kept.append(np.arange(at, at + length))
        at += length + 1
    return torch.from_numpy(np.concatenate(kept))


def _joined(tracks: Sequence[Tensor | None]) -> Tensor | None:
    there = [track for track in tracks if track is not None]
    return torch.cat(there) if there else None


def _numpy(track: Tensor | None, part: slice) -> np.ndarray | None:
    return None if track is None else track[part].cpu().numpy().astype(np.float32)
