"""The trained model: what it reads and its gradients are those of plain forward passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from engine.errors import ModelError, RequestError
from engine.ragged import Row
from engine.training.request import Lora
from engine.training.trained_model import TrainedModel, load
from engine.types import ModelReference
from tests.engine.tiny_models import write_model

FLOAT32 = torch.float32
SHAPES = ("llama", "qwen2", "gpt2", "gpt_neox", "mistral")


def _rows() -> list[Row]:
    draw = np.random.default_rng(1)

    def ids(length: int) -> np.ndarray:
        return draw.integers(3, 300, length).astype(np.int32)

    return [Row(ids(9), (ids(12), ids(5))), Row(ids(3), (ids(17),)), Row(ids(6), (ids(1), ids(2), ids(4)))]


def _trained(folder: Path, kind: str = "causal_lm", **options: object) -> TrainedModel:
    return load(ModelReference(path=str(folder)), kind, device="cpu", dtype=FLOAT32, seed=0, **options)  # type: ignore[arg-type]


def _plain_logprobs(model: torch.nn.Module, rows: list[Row]) -> torch.Tensor:
    parts = []
    for row in rows:
        for branch in row.branches:
            ids = torch.from_numpy(np.concatenate([row.prompt, branch]).astype(np.int64))
            logits = model(input_ids=ids[None]).logits[0].float()
            first = len(row.prompt)
            of_tokens = logits[first - 1 : -1].log_softmax(-1).gather(1, ids[first:, None])
            parts.append(of_tokens[:, 0])
    return torch.cat(parts)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("again", [False, True], ids=["kept", "recomputed"])
def test_logprobs_and_gradients_are_those_of_plain_passes(shape: str, again: bool, tmp_path: Path) -> None:
    folder = write_model(tmp_path / shape, shape)
    ours = _trained(folder, activation_checkpointing=again)
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    weights = torch.randn(sum(len(b) for r in _rows() for b in r.branches))
    read = ours(_rows(), entropies=True)
    expected = _plain_logprobs(plain, _rows())
    assert read.logprobs is not None
    torch.testing.assert_close(read.logprobs, expected, atol=2e-5, rtol=1e-4)
    (read.logprobs * weights).sum().backward()
    (expected * weights).sum().backward()
    gradients = dict(plain.named_parameters())
    compared = 0
    for name, one in ours.named_parameters().items():
        theirs = gradients[name].grad
        if theirs is None:
            assert one.grad is None
            continue
        torch.testing.assert_close(one.grad, theirs, atol=2e-4, rtol=2e-3)
        compared += 1
    assert compared > 8


def test_entropies_are_those_of_the_distribution(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", "llama")
    plain = AutoModelForCausalLM.from_pretrained(folder).eval().requires_grad_(False)
    row = _rows()[1]
    ids = torch.from_numpy(np.concatenate([row.prompt, row.branches[0]]).astype(np.int64))
    with torch.no_grad():
        logs = plain(input_ids=ids[None]).logits[0, len(row.prompt) - 1 : -1].log_softmax(-1)
    read = _trained(folder)([row], entropies=True)
    torch.testing.assert_close(read.entropies, -(logs.exp() * logs).sum(1), atol=1e-4, rtol=1e-4)
    assert read.entropies is not None
    assert not read.entropies.requires_grad


def test_a_reward_model_may_begin_as_a_causal_model(tmp_path: Path) -> None:
    model = _trained(write_model(tmp_path / "m", "llama"), "sequence_classifier")
    again = _trained(tmp_path / "m", "sequence_classifier")
    read = model(_rows(), logprobs=False, values=True)
    assert read.values is not None
    assert read.logprobs is None
    assert len(read.values) == sum(len(b) + 1 for r in _rows() for b in r.branches)
    assert float(read.values.detach().abs().max()) < 0.1
    torch.testing.assert_close(model.loaded.model.score.weight, again.loaded.model.score.weight)
    read.values.sum().backward()
    assert model.named_parameters()["score.weight"].grad is not None


def test_a_reward_model_reads_what_its_own_forward_pass_gives(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "rm", "reward")
    plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    row = _rows()[1]
    ids = torch.from_numpy(np.concatenate([row.prompt, row.branches[0]]).astype(np.int64))
    read = _trained(folder, "sequence_classifier")([row], logprobs=False, values=True)
    assert read.values is not None
    torch.testing.assert_close(read.values[-1], plain(input_ids=ids[None]).logits[0, 0], atol=1e-5, rtol=1e-4)


def test_a_value_head_begins_at_zero_and_learns(tmp_path: Path) -> None:
    model = _trained(write_model(tmp_path / "m", "llama"), value_head=True)
    read = model(_rows(), values=True)
    assert read.logprobs is not None
    assert read.values is not None
    assert float(read.values.detach().abs().max()) == 0.0
    torch.testing.assert_close(read.logprobs, model(_rows()).logprobs)
    (read.values - 1).pow(2).sum().backward()
    assert model.named_parameters()["value_head.bias"].grad is not None


def test_with_an_adapter_only_the_adapter_moves_and_the_reference_is_the_model_without_it(
    tmp_path: Path,
) -> None:
    folder = write_model(tmp_path / "m", "llama")
    model = _trained(folder, lora=Lora(rank=4))
    names = list(model.named_parameters())
    assert names
    assert all("lora_" in name for name in names)
    assert not any("lm_head" in name for name in names)
    plain = AutoModelForCausalLM.from_pretrained(folder).eval().requires_grad_(False)
    expected = _plain_logprobs(plain, _rows())
    with torch.no_grad():
        for one in model.named_parameters().values():
            one.add_(0.05)
    with model.as_reference(), torch.no_grad():
        torch.testing.assert_close(model(_rows()).logprobs, expected, atol=2e-5, rtol=1e-4)
    with torch.no_grad():
        assert float((model(_rows()).logprobs - expected).abs().max()) > 1e-3
    model(_rows()).logprobs.sum().backward()
    assert all(one.grad is not None for one in model.named_parameters().values())


def test_a_model_without_a_scalar_head_has_no_values(tmp_path: Path) -> None:
    model = _trained(write_model(tmp_path / "m", "llama"))
    with pytest.raises(RequestError, match="no scalar head"):
        model(_rows(), values=True)


def test_an_encoder_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="whole text at once"):
        _trained(write_model(tmp_path / "e", "encoder"), "sequence_classifier")


def test_reading_quietly_gives_the_same_in_small_passes(tmp_path: Path) -> None:
    model = _trained(write_model(tmp_path / "m", "llama"), value_head=True)
    whole = model(_rows(), entropies=True, values=True)
    quiet = model.read_quietly(_rows(), 24, entropies=True, values=True)
    flat = np.concatenate([one["logprobs"] for row in quiet for one in row])
    assert whole.logprobs is not None
    np.testing.assert_allclose(flat, whole.logprobs.detach().numpy(), atol=1e-5)
    assert [len(one["values"]) for one in quiet[2]] == [2, 3, 5]
