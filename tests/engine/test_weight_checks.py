"""What the files of a model hold is what is read: nothing is dropped, made up or applied twice in silence."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from engine.errors import ModelError
from engine.language_models import forget_models, load_for_training, load_policy, load_reward_model
from engine.model_files import inspect_model
from engine.types import ModelReference
from tests.engine.tiny_models import build, byte_tokenizer

IDS = torch.tensor([[5, 40, 77, 12]])


@pytest.fixture(autouse=True)
def _no_models_left_over():
    forget_models()
    yield
    forget_models()


@pytest.fixture
def folder(model_folder, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(model_folder("llama"), tmp_path / "model")


def reference(folder: Path) -> ModelReference:
    return ModelReference(path=str(folder))


def rewrite(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_bias_of_a_reward_head_is_read_and_told_of(model_folder, tmp_path):
    folder = shutil.copytree(model_folder("reward"), tmp_path / "model")
    plain = load_reward_model(reference(model_folder("reward")), device="cpu")
    rewrite(folder, lambda weights: weights.update({"score.bias": torch.tensor([5.0])}))

    loaded = load_reward_model(reference(folder), device="cpu")

    hidden = torch.randn(3, loaded.model.config.hidden_size)
    torch.testing.assert_close(loaded.values(hidden), plain.values(hidden) + 5.0)
    assert float(loaded.model(input_ids=IDS).logits) == pytest.approx(
        float(plain.model(input_ids=IDS).logits) + 5.0, rel=1e-6
    )
    assert "has a bias" in loaded.notes[0]


def test_weights_that_the_named_class_has_no_place_for_are_refused(tmp_path):
    tokenizer = byte_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    edit(tmp_path / "config.json", architectures=["LlamaForCausalLM"], model_type="llama")

    with pytest.raises(ModelError, match=r"4 tensors .* no place for, `model\.layers\.0\.self_attn"):
        load_policy(reference(tmp_path), device="cpu")


def test_fewer_layers_than_the_file_holds_are_refused(folder):
    edit(folder / "config.json", num_hidden_layers=1)

    with pytest.raises(ModelError, match=r"`model\.layers\.1\..* of fewer layers than the weights"):
        load_policy(reference(folder), device="cpu")


def test_a_head_that_is_not_read_is_told_of(model_folder, tmp_path):
    folder = shutil.copytree(model_folder("llama"), tmp_path / "model")
    rewrite(folder, lambda weights: weights.update({"v_head.summary.weight": torch.zeros(1, 32)}))

    loaded = load_policy(reference(folder), device="cpu")

    assert loaded.notes == [
        f"`{folder}` holds weights of a head that is not read here, `v_head.summary.weight`; a "
        "LlamaForCausalLM has none of that name."
    ]


def test_a_policy_that_becomes_a_reward_model_leaves_its_own_head_without_a_word(folder):
    assert load_for_training(reference(folder), "sequence_classifier", device="cpu").notes == []


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft asks transformers by an old name
def test_merged_weights_are_read_as_they_are_though_their_adapter_lies_beside_them(folder, tmp_path):
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder),
        LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    )
    torch.manual_seed(0)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.3)
    merged = tmp_path / "merged"
    adapted.save_pretrained(merged)
    whole = adapted.merge_and_unload()
    whole._hf_peft_config_loaded = False
    whole.save_pretrained(merged)
    byte_tokenizer().save_pretrained(merged)

    loaded = load_policy(reference(merged), device="cpu")

    with torch.no_grad():
        torch.testing.assert_close(loaded.model(input_ids=IDS).logits, whole(input_ids=IDS).logits)
    assert "adapter is not applied" in loaded.notes[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(folder, value):
    def spoil(weights):
        weights["model.layers.1.mlp.up_proj.weight"][3, 4] = value

    rewrite(folder, spoil)

    with pytest.raises(ModelError, match=r"NaN or infinite, `model\.layers\.1\.mlp\.up_proj\.weight`"):
        load_policy(reference(folder), device="cpu")


def test_an_index_beside_another_models_weights_is_refused(folder):
    build("llama", byte_tokenizer(), seed=1).save_pretrained(folder / "other", max_shard_size="40KB")
    for path in (folder / "other").glob("model*"):
        shutil.move(path, folder / path.name)

    with pytest.raises(ModelError, match="two models in one folder"):
        inspect_model(reference(folder))


def test_an_index_that_is_not_of_its_weights_is_refused(tmp_path):
    build("llama", byte_tokenizer()).save_pretrained(tmp_path, max_shard_size="40KB")
    byte_tokenizer().save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    del index["weight_map"]["model.norm.weight"]
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(ModelError, match=r"is not of these weights.*`model\.norm\.weight`"):
        inspect_model(reference(tmp_path))


@pytest.mark.parametrize(
    "file",
    ["tokenizer.json", "chat_template.jinja", "modeling_own.py", "additional_chat_templates/tool.jinja"],
)
def test_every_file_that_decides_what_a_model_says_is_in_its_fingerprint(folder, file):
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_bytes((folder / file).read_bytes() if (folder / file).exists() else b"first")
    before = inspect_model(reference(folder)).fingerprint

    (folder / file).write_bytes((folder / file).read_bytes() + b" ")

    assert inspect_model(reference(folder)).fingerprint != before


def test_a_large_file_with_other_content_has_another_fingerprint_though_size_and_time_are_the_same(
    folder, monkeypatch
):
    monkeypatch.setattr("engine.model_files.HASHED_WHOLE_BYTES", 0)
    path = folder / "model.safetensors"
    seen, before = path.stat(), inspect_model(reference(folder)).fingerprint

    rewrite(folder, lambda weights: weights.update({name: w * 2 for name, w in weights.items()}))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))

    assert path.stat().st_size == seen.st_size
    assert inspect_model(reference(folder)).fingerprint != before


def test_a_warm_process_reads_a_file_that_was_written_in_place_again(folder, monkeypatch):
    monkeypatch.setattr("engine.model_files._fingerprint", lambda folder, weights: "the same")
    first = load_policy(reference(folder), device="cpu")
    assert load_policy(reference(folder), device="cpu") is first

    rewrite(folder, lambda weights: weights.update({name: w * 2 for name, w in weights.items()}))

    assert load_policy(reference(folder), device="cpu") is not first
