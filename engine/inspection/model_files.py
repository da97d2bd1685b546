"""What there is to tell of a model, and what its files alone tell. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engine.model_files import ModelInfo, json_or_empty, token_ids


@dataclass(frozen=True, slots=True)
class Reading:
    """A conversation as a model reads it."""

    key: str
    side: str
    before: str
    """The prompt's side, with what the template writes before the response."""
    response: str
    ending: str
    """What ends the turn."""
    after: str
    """What the template writes after that; reward models read it, policies do not."""

    def as_row(self) -> dict[str, Any]:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class ModelSeen:
    """A model, as it would be read."""

    path: str
    kind: str
    architecture: str
    parameters: int
    vocab_size: int
    context: int | None
    dtype: str
    has_chat_template: bool
    bos: str | None
    eos: str | None
    pad: str | None
    ends: list[str]
    """The tokens after which a response is over."""
    example: Reading | None = None
    """None without a chat template, where it takes no such conversation, or where nothing was loaded."""
    reading: str | None = None
    """How a reward model's reading compares with its own forward pass, in a sentence."""
    odd: list[str] = field(default_factory=list)
    """What a person would want to know before going on, in sentences."""
    refusal: str | None = None
    """Why it cannot be used, in a sentence."""

    def as_row(self) -> dict[str, Any]:
        """As JSON."""
        row = {name: getattr(self, name) for name in self.__slots__}
        return {**row, "example": None if self.example is None else self.example.as_row()}


def seen_of(info: ModelInfo) -> ModelSeen:
    """What the files of a model tell, which need not be loaded for it."""
    special = json_or_empty(info.folder / "tokenizer_config.json")
    config = json_or_empty(info.folder / "config.json")
    names = {index: name for name, index in token_ids(json_or_empty(info.folder / "tokenizer.json")).items()}
    bos, eos, pad = (_token(special.get(f"{name}_token")) for name in ("bos", "eos", "pad"))
    ends = [names.get(index, f"token {index}") for index in info.eos_token_ids]
    return ModelSeen(
        path=info.path,
        kind=info.kind,
        architecture=info.architecture,
        parameters=info.parameters,
        vocab_size=info.vocab_size,
        context=info.context,
        dtype=str(config.get("dtype") or config.get("torch_dtype") or "float32"),
        has_chat_template=info.has_chat_template,
        bos=bos,
        eos=eos,
        pad=pad,
        ends=list(dict.fromkeys(ends if eos is None else [eos, *ends])),
    )


def _token(written: Any) -> str | None:
    """A special token, which tokenizer_config.json names by its text or as an object."""
    content = written.get("content") if isinstance(written, dict) else written
    return content if isinstance(content, str) else None
