"""Loads policies and reward models, keeps the last few, and checks that each can be read as scoring does.

The only file that imports transformers' models.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from weakref import WeakSet

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from engine.endings import about_endings
from engine.errors import EngineError, ModelError, RequestError, ResourceError
from engine.logprobs import Head, HeadWeights
from engine.model_files import ModelInfo, ModelKind, inspect_model
from engine.types import ModelReference
from engine.weight_checks import check_loaded, without_adapter

log = logging.getLogger(__name__)

KEPT_MODELS = 3
"""Policy, reference and reward model of one request."""
MATMUL_TOLERANCE = 1e-5
"""Relative error up to which a faster matrix product still counts as float32."""

Dtype = Literal["auto", "float32", "bfloat16"]


@dataclass(eq=False)
class LoadedModel:
    """A model in memory, ready to be read, with its tokenizer."""

    info: ModelInfo
    model: Any
    """The transformers model, in evaluation mode, without gradients."""
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype
    notes: list[str] = field(default_factory=list)
    """Sentences for the log of a job: what is unusual about this model."""
    plan: Any = None
    """How it is read, found out once: see `reading.plan_of`."""
    skipped_padding: int | None = None
    """The token after which a reward model gives no value of its own but that before it, found out with the
    plan: see `reading.value_places`."""
    threads: int | None = None
    """How many threads read it fastest, found out once: see `reading.fitting_threads`."""
    same_tokens: WeakSet[LoadedModel] = field(default_factory=WeakSet)
    """Models found to give each token the same id: comparing large vocabularies takes a while."""
    probe: Any = None
    """How far a reward model's reading is from its own forward pass, found out once: see
    `inspection.probe.probe_of`."""
    _head: Head | None = None

    @property
    def backbone(self) -> Any:
        """The model without its head: token ids to hidden states."""
        return self.model.base_model

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding table: token ids must lie below."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @property
    def head(self) -> Head:
        """From hidden states to float32 logits, with what the architecture does to them."""
        if self._head is None:
            self._head = _logits_head(self)
        return self._head

    def values(self, hidden: torch.Tensor) -> torch.Tensor:
        """The scalar head of a reward model at every position: (positions, hidden) -> (positions,)."""
        score = self.model.score
        bias = None if score.bias is None else score.bias.float()
        return torch.nn.functional.linear(hidden.float(), score.weight.float(), bias)[:, 0]


_kept: OrderedDict[tuple[str, ...], LoadedModel] = OrderedDict()


def load_policy(reference: ModelReference, *, device: str = "auto", dtype: Dtype = "auto") -> LoadedModel:
    """A causal LM; also what is called the reference. Raises ModelError where it is none."""
    return _load(reference, "causal_lm", device, dtype)


def load_reward_model(
    reference: ModelReference, *, device: str = "auto", dtype: Dtype = "auto"
) -> LoadedModel:
    """A sequence classifier with one output. Raises ModelError where it is none."""
    loaded = _load(reference, "sequence_classifier", device, dtype)
    _check_one_output(reference, loaded)
    return loaded


def _check_one_output(reference: ModelReference, loaded: LoadedModel) -> None:
    outputs = loaded.model.config.num_labels
    if outputs != 1:
        raise ModelError(
            f"`{reference.path}` gives {outputs} numbers instead of one value; train the reward model with "
            "`num_labels=1`."
        )


def load_for_training(
    reference: ModelReference, kind: ModelKind, *, device: str = "auto", seed: int = 0
) -> LoadedModel:
    """A copy of a model that nobody else reads, in float32, for whoever changes its weights.

    A sequence classifier may also begin as a causal LM: its body is taken, and a head of one output is drawn
    from `seed`, so small that every value begins near 0. Raises ModelError where the model is no such kind.
    """
    info = inspect_model(reference)
    place = _device(device)
    if info.kind == kind:
        loaded = _read(reference, info, place, torch.float32)
        if kind == "sequence_classifier":
            _check_one_output(reference, loaded)
        return loaded
    if kind == "causal_lm":
        raise _wrong_kind(reference, info, kind)
    info = replace(info, kind=kind, labels=1)
    loaded = _read(reference, info, place, torch.float32, fresh_head=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = loaded.model.score.weight.shape[1]
        loaded.model.score.weight.data.copy_(torch.randn(1, width) * 1e-3 / width**0.5)
    info = replace(info, architecture=type(loaded.model).__name__)
    return replace(loaded, info=info)


def forget_models() -> None:
    """Frees the models that are kept."""
    _kept.clear()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def memory_advice(advice: str) -> Iterator[None]:
    """Turns running out of memory, on host or device, into a ResourceError that ends with `advice`."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ResourceError(f"The memory of the device is used up; {advice}") from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise ResourceError(f"The memory of the machine is used up; {advice}") from error


# -------------------------------------------------------------------------------------------------- loading


def _load(reference: ModelReference, kind: ModelKind, device: str, dtype: Dtype) -> LoadedModel:
    info = inspect_model(reference)
    if info.kind != kind:
        raise _wrong_kind(reference, info, kind)
    place = _device(device)
    numbers = _dtype(dtype, place)
    key = (str(info.folder.resolve()), info.fingerprint, info.files_seen, str(place), str(numbers))
    if key not in _kept:
        while len(_kept) >= KEPT_MODELS:
            _kept.popitem(last=False)
        _kept[key] = _read(reference, info, place, numbers)
    _kept.move_to_end(key)
    return _kept[key]


def _wrong_kind(reference: ModelReference, info: ModelInfo, kind: ModelKind) -> ModelError:
    wanted = "a causal LM" if kind == "causal_lm" else "a reward model (a sequence classifier)"
    return ModelError(f"`{reference.path}` is a {info.architecture}, but {wanted} is needed here.")


def _read(
    reference: ModelReference,
    info: ModelInfo,
    device: torch.device,
    dtype: torch.dtype,
    *,
    fresh_head: bool = False,
) -> LoadedModel:
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if device.type == "cpu":
        use_fast_products_where_exact()
    auto = AutoModelForCausalLM if info.kind == "causal_lm" else AutoModelForSequenceClassification
    try:
        with memory_advice("use a smaller model, another device, or `dtype: bfloat16`."):
            with without_adapter(info.folder) as folder:
                model, report = auto.from_pretrained(
                    folder,
                    dtype=dtype,
                    use_safetensors=True,
                    trust_remote_code=reference.trust_remote_code,
                    local_files_only=True,
                    output_loading_info=True,
                    **({"num_labels": 1} if fresh_head else {}),
                )
            model = model.to(device).eval().requires_grad_(False)
    except EngineError:
        raise
    except Exception as error:  # There is no end to what a damaged configuration makes a library raise.
        raise ModelError(f"The model `{reference.path}` cannot be loaded: {_one_line(error)}.") from error
    made_anew = frozenset({"score.weight", "lm_head.weight"} if fresh_head else ())
    notes = check_loaded(reference.path, info.folder, model, report, made_anew)
    tokenizer = _tokenizer(reference, info)
    if info.kind == "causal_lm":
        notes += about_endings(tokenizer, info.eos_token_ids)
    return LoadedModel(info, model, tokenizer, device, dtype, notes)


def _tokenizer(reference: ModelReference, info: ModelInfo) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            info.folder, trust_remote_code=reference.trust_remote_code, local_files_only=True
        )
    except Exception as error:  # As for the model itself; `tokenizers` raises bare Exceptions, too.
        raise ModelError(
            f"The tokenizer of `{reference.path}` cannot be loaded: {_one_line(error)}."
        ) from error
    if not tokenizer.is_fast:
        raise ModelError(
            f"The tokenizer of `{reference.path}` cannot tell which characters a token covers; save a "
            "fast one (tokenizer.json)."
        )
    return tokenizer


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise RequestError(
            f"This machine has no device `{name}`; ask for `auto`, `cpu`, or one that it has."
        ) from error
    return device


def _dtype(name: Dtype, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return torch.float32 if name == "float32" else torch.bfloat16


def use_fast_products_where_exact() -> str:
    """Asks for faster float32 products on this CPU if they stay float32; returns the precision in use.

    `medium` lets some CPUs choose a faster kernel that is still float32; others would drop to bfloat16, which
    costs 1e-2 nats a token, so the error against `highest` decides.
    """
    current = torch.get_float32_matmul_precision()
    if current == "medium":
        return current
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(256, 256, generator=generator) for _ in range(2))
    exact = left @ right
    torch.set_float32_matmul_precision("medium")
    if float((left @ right - exact).norm() / exact.norm()) > MATMUL_TOLERANCE:
        torch.set_float32_matmul_precision(current)
    return torch.get_float32_matmul_precision()


# ----------------------------------------------------------------------------------------------------- head


def head_weights(loaded: LoadedModel) -> HeadWeights:
    """The output embedding, with the scaling and capping that a few architectures do after it."""
    output = loaded.model.get_output_embeddings()
    config = loaded.model.config.get_text_config()
    factor = float(getattr(config, "logit_scale", None) or 1.0)
    factor /= float(getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return HeadWeights(output.weight, getattr(output, "bias", None), factor, float(cap) if cap else None)


def _logits_head(loaded: LoadedModel) -> Head:
    """The head of a frozen model, its weights in float32 once and for all."""
    head = head_weights(loaded)
    bias = None if head.bias is None else head.bias.float()
    return head._replace(weight=head.weight.float(), bias=bias).logits
