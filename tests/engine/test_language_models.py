import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine import language_models
from engine.errors import ModelError, RequestError, ResourceError
from engine.language_models import (
    KEPT_MODELS,
    forget_models,
    load_policy,
    load_reward_model,
    memory_advice,
    use_fast_products_where_exact,
)
from engine.types import ModelReference


@pytest.fixture(autouse=True)
def _no_models_left_over():
    forget_models()
    yield
    forget_models()


def reference(folder):
    return ModelReference(path=str(folder))


def test_a_policy_is_ready_to_be_read(model_folder):
    loaded = load_policy(reference(model_folder("llama")), device="cpu")
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert (loaded.dtype, loaded.device.type) == (torch.float32, "cpu")
    assert (
        load_policy(reference(model_folder("llama")), device="cpu", dtype="bfloat16").dtype == torch.bfloat16
    )


def test_a_model_is_loaded_once_and_the_last_few_are_kept(model_folder):
    first = load_policy(reference(model_folder("llama")), device="cpu")
    assert load_policy(reference(model_folder("llama")), device="cpu") is first
    for shape in ("qwen2", "gpt2", "gpt_neox"):
        load_policy(reference(model_folder(shape)), device="cpu")
    assert len(language_models._kept) == KEPT_MODELS
    assert load_policy(reference(model_folder("llama")), device="cpu") is not first


def test_changed_weights_are_loaded_again(model_folder, tmp_path):
    folder = shutil.copytree(model_folder("llama"), tmp_path / "model")
    first = load_policy(reference(folder), device="cpu")
    weights = {name: tensor * 2 for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_policy(reference(folder), device="cpu") is not first


def test_the_kinds_of_model_are_not_confused(model_folder):
    with pytest.raises(ModelError, match="a causal LM is needed"):
        load_policy(reference(model_folder("reward")), device="cpu")
    with pytest.raises(ModelError, match=r"a reward model .* is needed"):
        load_reward_model(reference(model_folder("llama")), device="cpu")


def test_weights_that_do_not_fit_are_refused(model_folder, tmp_path):
    folder = shutil.copytree(model_folder("reward"), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 tensors are missing .* score\.weight"):
        load_reward_model(reference(folder), device="cpu")


def test_a_configuration_that_the_library_refuses_is_told(model_folder, tmp_path):
    folder = shutil.copytree(model_folder("llama"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": "five"}))
    with pytest.raises(ModelError, match=r"cannot be loaded.*num_hidden_layers"):
        load_policy(reference(folder), device="cpu")


def test_a_device_that_is_not_there_is_told(model_folder):
    with pytest.raises(RequestError, match="no device `nonsense`"):
        load_policy(reference(model_folder("llama")), device="nonsense")


def test_running_out_of_memory_comes_with_advice():
    with pytest.raises(ResourceError, match=r"used up; buy more\."), memory_advice("buy more."):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")
    with pytest.raises(RuntimeError, match="a bug"), memory_advice("buy more."):
        raise RuntimeError("a bug")


def test_products_stay_float32():
    before = torch.get_float32_matmul_precision()
    try:
        use_fast_products_where_exact()
        left, right = torch.randn(200, 200), torch.randn(200, 200)
        exact = left.double() @ right.double()
        assert float((left @ right - exact).norm() / exact.norm()) < 1e-5
    finally:
        torch.set_float32_matmul_precision(before)
