"""What was loaded against what the files hold: no weight is dropped, made up or not a number in silence."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from engine.errors import ModelError

ADAPTER_CONFIG = "adapter_config.json"
UNREAD_HEAD = re.compile(r"^(lm_head|score|classifier|v_head|value_head|qa_outputs|cls)\b")
"""Heads that a file may hold beside the one that is read: a reward model made of a causal LM keeps its
`lm_head`, a policy that PPO trained keeps the critic's `v_head`."""
SCORE_BIAS = "score.bias"
MOST_NAMED = 3


@contextmanager
def without_adapter(folder: Path) -> Iterator[Path]:
    """A folder of links to the same files but an adapter's; the folder itself where it has no adapter.

    transformers applies whatever adapter lies beside the weights, and merged weights have it in them already.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="rewardscope-model-") as scratch:
        for path in folder.iterdir():
            if not path.name.startswith("adapter_"):
                (Path(scratch) / path.name).symlink_to(path.resolve())
        yield Path(scratch)


def check_loaded(
    path: str, folder: Path, model: Any, report: dict[str, Any], made_anew: frozenset[str] = frozenset()
) -> list[str]:
    """Notes on what is unusual about a loaded model; takes up the bias of a reward head on the way.

    path: the model as it was asked for. report: transformers' loading info. made_anew: weights that nobody
    expects to find. Raises ModelError where weights are missing, of another shape, of no place in the model's
    class, or not finite.
    """
    missing = sorted(set(report.get("missing_keys", ())) - made_anew)
    mismatched = sorted(str(key[0]) for key in report.get("mismatched_keys", ()))
    if missing or mismatched:
        raise ModelError(
            f"The weights of `{path}` do not fit its config.json: {len(missing + mismatched)} tensors are "
            f"missing or of another shape, the first is {(missing + mismatched)[0]}; save the whole model."
        )
    notes = []
    unread = set(report.get("unexpected_keys", ()))
    if SCORE_BIAS in unread and hasattr(model, "score") and model.score.bias is None:
        _adopt_bias(folder, model)
        unread.remove(SCORE_BIAS)
        notes.append(
            f"The reward head of `{path}` has a bias, which its class in transformers leaves out; it is read "
            "here. Other programs that load the model without it give values that differ by a constant."
        )
    heads = {name for name in unread if UNREAD_HEAD.match(name)}
    homeless = sorted(unread - heads)
    if homeless:
        raise ModelError(
            f"`{path}` holds {len(homeless)} tensors that a {type(model).__name__} has no place for, "
            f"{_named(homeless)}: the config.json is of another architecture or of fewer layers than the "
            "weights. Restore the config.json that belongs to the weights, or save the model again."
        )
    if heads - made_anew:
        notes.append(
            f"`{path}` holds weights of a head that is not read here, {_named(sorted(heads))}; a "
            f"{type(model).__name__} has none of that name."
        )
    if (folder / ADAPTER_CONFIG).is_file():
        notes.append(
            f"`{path}` holds an adapter beside whole weights. The weights are read as model.safetensors has "
            "them and the adapter is not applied: merged weights have it in them. Where they are not merged, "
            "merge them with `merge_and_unload()` and save the result; else remove adapter_config.json."
        )
    _check_finite(path, model)
    return notes


def _named(names: Iterable[str]) -> str:
    """The first few names in backticks."""
    listed = list(names)
    shown = ", ".join(f"`{name}`" for name in listed[:MOST_NAMED])
    return f"{shown} and {len(listed) - MOST_NAMED} more" if len(listed) > MOST_NAMED else shown


def _adopt_bias(folder: Path, model: Any) -> None:
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            if SCORE_BIAS in tensors.keys():  # noqa: SIM118 - no mapping
                weight = model.score.weight
                bias = tensors.get_tensor(SCORE_BIAS).to(weight.device, weight.dtype)
                model.score.bias = torch.nn.Parameter(bias, requires_grad=weight.requires_grad)


def _check_finite(path: str, model: Any) -> None:
    broken = [name for name, weight in model.named_parameters() if not bool(torch.isfinite(weight).all())]
    if broken:
        raise ModelError(
            f"`{path}` has weights that are NaN or infinite, {_named(broken)}: whatever it says is NaN too. "
            "Its training diverged or its file is damaged; use an earlier checkpoint, or fetch it again."
        )
