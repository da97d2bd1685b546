"""What a model's files say of it, before anything is loaded.

Knows folders and the hub's cache; knows neither torch nor transformers, so that the web process may ask.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.errors import ModelError, UntrustedCodeError
from engine.places import is_there, place
from engine.types import ModelReference

ModelKind = Literal["causal_lm", "sequence_classifier"]

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
HUB_PATTERNS = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.model", "*.txt", "*.jinja"]
HUB_PATTERNS_OF_CODE = [*HUB_PATTERNS, "*.py"]
MAX_JSON_BYTES = 64 * 2**20
"""A larger file is no configuration, index or tokenizer: the largest vocabularies in use take half of it."""
MAX_HEADER_BYTES = 16 * 2**20
"""Of a safetensors file: room for some hundred thousand tensors."""
HASHED_WHOLE_BYTES = 16 * 2**20
"""Weight files up to this size enter the fingerprint by content, larger ones by header, size, time and ..."""
SAMPLED_BLOCKS, SAMPLED_BLOCK_BYTES = 64, 64 * 2**10
"""... blocks of their content."""
DECIDING = (".json", ".jinja", ".model", ".txt", ".py", ".tiktoken")
"""Endings of the files, beside the weights, that decide what a model says."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that can be loaded, as far as its files tell."""

    path: str
    """As it was asked for: a folder or a name on a hub."""
    folder: Path
    """Where the files lie."""
    kind: ModelKind
    architecture: str
    """The class of its code, for instance `LlamaForCausalLM`."""
    parameters: int
    """Numbers in the weight files; tied weights count once."""
    vocab_size: int
    context: int | None
    """Most tokens of one sequence; None where the architecture names no limit."""
    has_chat_template: bool
    fingerprint: str
    """Changes when configuration, tokenizer, code or weights change: 16 hexadecimal digits. Of a large weight
    file it knows the header, the size, the time of its last change and blocks spread over its content."""
    files_seen: str
    """Changes whenever a file was written anew, whatever it holds: for what is kept in memory."""
    needs_remote_code: bool
    """Whether its code comes with it. Such a model is only shown to those who allowed that."""
    labels: int | None
    """Outputs of a sequence classifier; None for a causal LM."""
    eos_token_ids: tuple[int, ...]
    """Tokens that end a generation, as its generation configuration (or else its configuration) says."""


def inspect_model(reference: ModelReference, *, download: bool = True) -> ModelInfo:
    """What the files of a model say. Raises ModelError with a sentence that says what is missing.

    With `download` a name on a hub is fetched where it is not in the local cache; without, it must be there.
    """
    folder = locate(reference, download=download)
    config = _read_json(folder / "config.json", reference)
    remote_code = _brings_code(folder, config)
    if remote_code and not reference.trust_remote_code:
        raise UntrustedCodeError(
            f"The model `{reference.path}` brings Python code of its own, which is not run unless an "
            "administrator allows this very model; allow it, or use a model of a built-in architecture."
        )
    architecture = _architecture(config, reference)
    kind = _kind(architecture, reference)
    weights = _weight_files(folder, reference)
    _check_tokenizer(folder, reference)
    headers = {path: _safetensors_header(path, reference) for path in weights}
    text_config = _text_config(config, reference)
    return ModelInfo(
        path=reference.path,
        folder=folder,
        kind=kind,
        architecture=architecture,
        parameters=sum(_parameters(header) for header in headers.values()),
        vocab_size=_vocab_size(text_config, reference),
        context=_context(text_config),
        has_chat_template=_has_chat_template(folder),
        fingerprint=_fingerprint(folder, weights),
        files_seen=_files_seen(folder),
        needs_remote_code=remote_code,
        labels=_labels(config) if kind == "sequence_classifier" else None,
        eos_token_ids=_eos_token_ids(folder, config),
    )


def same_tokens(ours: ModelReference, theirs: ModelReference) -> bool | None:
    """Whether each token has one id in both models, where one may have further tokens at the end.

    None where that cannot be told from the files: a model that is not here, or without a tokenizer.json.
    """
    try:
        files = [locate(one, download=False) / "tokenizer.json" for one in (ours, theirs)]
        if filecmp.cmp(files[0], files[1], shallow=False):
            return True
    except (ModelError, OSError):
        return None
    first, second = (token_ids(json_or_empty(file)) for file in files)
    if not first or not second:
        return None
    larger, smaller = (first, second) if len(first) >= len(second) else (second, first)
    return all(larger.get(token) == index for token, index in smaller.items())


def token_ids(tokenizer: dict[str, Any]) -> dict[str, int]:
    """The id of every token that a tokenizer.json lists; empty where it lists them in a way of its own."""
    vocabulary = (tokenizer.get("model") or {}).get("vocab")
    if isinstance(vocabulary, list):  # Unigram: [token, score], each at the place of its id.
        vocabulary = {entry[0]: index for index, entry in enumerate(vocabulary)}
    if not isinstance(vocabulary, dict):
        return {}
    added = tokenizer.get("added_tokens") or []
    return {**vocabulary, **{token["content"]: token["id"] for token in added}}


# ------------------------------------------------------------------------------------------ where files lie


def locate(reference: ModelReference, *, download: bool = True) -> Path:
    """The local folder of a model: itself, or its snapshot in the hub's cache."""
    folder = place(reference.path)
    if is_there(folder):
        if folder.is_dir():
            return folder / reference.subfolder if reference.subfolder else folder
        raise ModelError(
            f"`{reference.path}` is a file; name the folder that holds config.json and the weights."
        )
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", reference.path):
        raise ModelError(
            f"The folder `{reference.path}` does not exist; name a folder that holds a model, or a model on "
            "the hub as `owner/name`."
        )
    snapshot = _snapshot(reference, download)
    return snapshot / reference.subfolder if reference.subfolder else snapshot


def _snapshot(reference: ModelReference, download: bool) -> Path:
    """The hub's snapshot of a model; without a network, the one in the local cache."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
    except ImportError as error:
        raise ModelError(
            f"`{reference.path}` is no local folder, and this installation cannot reach a hub; install "
            "`rewardscope[engine]`, or name a folder."
        ) from error
    name = reference.path
    patterns = HUB_PATTERNS_OF_CODE if reference.trust_remote_code else HUB_PATTERNS
    try:
        found = snapshot_download(
            name, revision=reference.revision, allow_patterns=patterns, local_files_only=not download
        )
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"There is no folder `{name}`, and the hub knows no model of that name that you may read; check "
            "the name, or log in with `hf auth login`."
        ) from error
    except HFValidationError as error:
        raise ModelError(f"`{name}` is neither a folder nor a name that a hub could have.") from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"There is no folder `{name}`, and a model of that name is not in the local cache and could not "
            "be fetched from the hub; check the name and the network, or name a folder."
        ) from error
    return Path(found)


# ------------------------------------------------------------------------------------------- what files say


def _read_json(path: Path, reference: ModelReference) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError(_missing(path, reference))
    try:
        content = _parsed(path)
    except (ValueError, OSError) as error:
        raise ModelError(
            f"The file {path.name} of the model `{reference.path}` cannot be read as JSON ({error}); fetch "
            "or save the model again."
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"The file {path.name} of the model `{reference.path}` holds no JSON object.")
    return content


def _parsed(path: Path) -> Any:
    """The JSON of a plain file of bounded size. Raises ValueError, OSError."""
    size = path.stat().st_size
    if not path.is_file() or size > MAX_JSON_BYTES:
        raise ValueError(f"it is no plain file of at most {MAX_JSON_BYTES // 2**20} MiB")
    with path.open("rb") as file:
        return _json_of(file.read(MAX_JSON_BYTES + 1))


def _json_of(content: bytes) -> Any:
    """Raises ValueError, also for what is nested too deep to be read."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _missing(path: Path, reference: ModelReference) -> str:
    if path.name == "config.json" and (path.parent / "adapter_config.json").is_file():
        base = json_or_empty(path.parent / "adapter_config.json").get("base_model_name_or_path")
        of_base = f" of `{base}`" if base else ""
        return (
            f"`{reference.path}` holds an adapter{of_base} without its base model; merge it with "
            "`merge_and_unload()` and save the result."
        )
    return (
        f"The model `{reference.path}` has no {path.name}; save it with `save_pretrained()`, which writes "
        "config.json, model.safetensors and the tokenizer's files."
    )


def _brings_code(folder: Path, config: dict[str, Any]) -> bool:
    return "auto_map" in config or "auto_map" in json_or_empty(folder / "tokenizer_config.json")


def json_or_empty(path: Path) -> dict[str, Any]:
    """The object of a JSON file; empty where there is none, or the file holds something else."""
    try:
        content = _parsed(path)
    except (ValueError, OSError):
        return {}
    return content if isinstance(content, dict) else {}


def _architecture(config: dict[str, Any], reference: ModelReference) -> str:
    architectures = config.get("architectures")
    if isinstance(architectures, list) and architectures and isinstance(architectures[0], str):
        return architectures[0]
    raise ModelError(
        f"The config.json of `{reference.path}` names no architecture; save the model with "
        '`save_pretrained()`, or add `architectures`, for instance ["LlamaForCausalLM"].'
    )


def _text_config(config: dict[str, Any], reference: ModelReference) -> dict[str, Any]:
    """The part that describes the language model: all of it, unless the model reads more than text."""
    text_config = config.get("text_config", config)
    if not isinstance(text_config, dict):
        raise ModelError(
            f"The `text_config` in the config.json of `{reference.path}` is no object; fetch or save "
            "the model again."
        )
    return text_config


def _vocab_size(text_config: dict[str, Any], reference: ModelReference) -> int:
    size = text_config.get("vocab_size", 0)
    if not isinstance(size, int) or size < 0:
        raise ModelError(
            f"The `vocab_size` in the config.json of `{reference.path}` is {size!r} and no count; fetch or "
            "save the model again."
        )
    return size


def _kind(architecture: str, reference: ModelReference) -> ModelKind:
    if architecture.endswith("ForSequenceClassification"):
        return "sequence_classifier"
    if architecture.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")):
        return "causal_lm"
    raise ModelError(
        f"`{reference.path}` is a {architecture}, which neither continues text nor values it; use a causal "
        "LM or a sequence classifier."
    )


def _weight_files(folder: Path, reference: ModelReference) -> list[Path]:
    """The weight files, those of an index where there is one. An index and a model.safetensors that it does
    not name are two models in one folder, and transformers would read the latter."""
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        files = _indexed(folder, index, reference)
        if single.is_file() and single not in files:
            raise ModelError(
                f"`{reference.path}` holds model.safetensors and a {index.name} that names other files: two "
                "models in one folder. Remove the one that is not meant."
            )
        if files:
            return files
    if single.is_file():
        return [single]
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
        raise ModelError(
            f"The weights of `{reference.path}` are pickles, which can run code when they are read; convert "
            "them where you trust them: load with `from_pretrained(path)` and save with "
            "`save_pretrained(path, safe_serialization=True)`."
        )
    raise ModelError(_missing(single, reference))


def _indexed(folder: Path, index: Path, reference: ModelReference) -> list[Path]:
    """The files that an index names, each with the tensors that it names there."""
    named = _read_json(index, reference).get("weight_map", {})
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise ModelError(
            f"The file {index.name} of `{reference.path}` does not say which file holds which tensor; "
            "fetch it again."
        )
    files = [folder / name for name in sorted(set(named.values()))]
    outside = [name for name in named.values() if Path(name).name != name]
    if outside:
        raise ModelError(
            f"The file {index.name} of `{reference.path}` names weights outside its folder, as "
            f"`{outside[0]}`; fetch the model again."
        )
    absent = [path.name for path in files if not path.is_file()]
    if absent:
        raise ModelError(
            f"The model `{reference.path}` lacks {len(absent)} of {len(files)} weight files, the first "
            f"is {absent[0]}; fetch it again."
        )
    for path in files:
        there = set(_safetensors_header(path, reference))
        listed = {tensor for tensor, name in named.items() if name == path.name}
        if there != listed:
            raise ModelError(
                f"The file {index.name} of `{reference.path}` is not of these weights: it lists "
                f"{len(listed)} tensors in {path.name}, which holds {len(there)}, among them "
                f"`{min(there ^ listed)}`, which only one of the two knows; save or fetch the model again."
            )
    return files


def _check_tokenizer(folder: Path, reference: ModelReference) -> None:
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(
            f"The model `{reference.path}` has no tokenizer (no tokenizer.json); save it beside the weights "
            "with `tokenizer.save_pretrained()`."
        )


def _safetensors_header(path: Path, reference: ModelReference) -> dict[str, Any]:
    """The table of tensors at the head of a safetensors file, checked against the file's size."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            head = file.read(8)
            if head.startswith(b"version "):
                raise ModelError(
                    f"The file {path.name} of `{reference.path}` is a Git LFS pointer; run `git lfs pull`."
                )
            length = int.from_bytes(head, "little")
            if len(head) < 8 or length > size - 8:
                raise ValueError("the file ends inside its header")
            if length > MAX_HEADER_BYTES:
                raise ValueError(f"its header is over {MAX_HEADER_BYTES // 2**20} MiB")
            header = _json_of(file.read(length))
        header.pop("__metadata__", None)
        end = 8 + length + max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        _parameters(header)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(
            f"The file {path.name} of `{reference.path}` is no safetensors file ({error}); fetch it again."
        ) from error
    if size < end:
        raise ModelError(
            f"The file {path.name} of `{reference.path}` is cut short: it holds {size} of {end} bytes; fetch "
            "it again."
        )
    assert isinstance(header, dict)
    return header


def _parameters(header: dict[str, Any]) -> int:
    return sum(math.prod(tensor["shape"]) for tensor in header.values())


def _context(config: dict[str, Any]) -> int | None:
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"):
        value = config.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _labels(config: dict[str, Any]) -> int:
    if isinstance(config.get("num_labels"), int):
        return int(config["num_labels"])
    names = config.get("id2label")
    return len(names) if isinstance(names, dict) else 2


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    return bool(json_or_empty(folder / "tokenizer_config.json").get("chat_template"))


def _eos_token_ids(folder: Path, config: dict[str, Any]) -> tuple[int, ...]:
    generation = json_or_empty(folder / "generation_config.json")
    eos = generation.get("eos_token_id", config.get("eos_token_id"))
    ids = eos if isinstance(eos, list) else [eos]
    return tuple(token for token in ids if isinstance(token, int))


# ---------------------------------------------------------------------------------------------- fingerprint


def _fingerprint(folder: Path, weights: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in _deciding_files(folder):
        whole = path.stat().st_size <= MAX_JSON_BYTES
        content = path.read_bytes() if whole else _identity(path)
        _add(digest, path.relative_to(folder).as_posix().encode(), content)
    for path in weights:
        _add(digest, path.name.encode(), _identity(path))
    return digest.hexdigest()[:16]


def _deciding_files(folder: Path) -> list[Path]:
    """The files beside the weights that decide what a model says: configuration, tokenizer, code."""
    return [path for path in _files(folder) if path.suffix in DECIDING]


def files_of(folder: Path) -> list[Path]:
    """What is read of a model's folder, plain files or not; nothing of a folder that is not there."""
    return [path for path in _places(folder) if path.suffix in (*DECIDING, ".safetensors")]


def _places(folder: Path) -> list[Path]:
    """What of a folder may belong to the model; other folders below it are not read with it."""
    return [*folder.glob("*"), *(folder / "additional_chat_templates").glob("*")]


def _files(folder: Path) -> list[Path]:
    """The plain files of a model."""
    return sorted(path for path in _places(folder) if path.is_file())


def _files_seen(folder: Path) -> str:
    """Of every file its name, size, times and place, which a file written in place changes too."""
    digest = hashlib.sha256()
    for path in _files(folder):
        seen = path.stat()
        state = f"{seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns} {seen.st_ino}"
        _add(digest, path.relative_to(folder).as_posix().encode(), state.encode())
    return digest.hexdigest()[:16]


def _add(digest: Any, *parts: bytes) -> None:
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)


def _identity(path: Path) -> bytes:
    """What tells the content of a weight file: its hash where known or cheap, else its header and time."""
    blob = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", blob):  # The hub's cache names a file by the hash of its content.
        return blob.encode()
    status = path.stat()
    if status.st_size <= HASHED_WHOLE_BYTES:
        return hashlib.sha256(path.read_bytes()).digest()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(2**20))
        for block in range(SAMPLED_BLOCKS):
            file.seek((block + 1) * status.st_size // (SAMPLED_BLOCKS + 1))
            digest.update(file.read(SAMPLED_BLOCK_BYTES))
    return digest.digest() + f"{status.st_size} {status.st_mtime_ns}".encode()
