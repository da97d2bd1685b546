import json
import shutil

import pytest

from engine.errors import ModelError, UntrustedCodeError
from engine.model_files import inspect_model, same_tokens
from engine.types import ModelReference
from tests.engine.tiny_models import build, byte_tokenizer


@pytest.fixture
def folder(model_folder, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(model_folder("llama"), tmp_path / "model")


def inspect(folder, **others):
    return inspect_model(ModelReference(path=str(folder), **others))


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_causal_lm_is_described(folder):
    info = inspect(folder)
    assert (info.kind, info.architecture, info.context) == ("causal_lm", "LlamaForCausalLM", 256)
    model = build("llama", byte_tokenizer())
    assert info.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert info.vocab_size == len(byte_tokenizer())
    assert not info.has_chat_template
    assert not info.needs_remote_code
    assert info.labels is None


def test_a_reward_model_is_described(model_folder):
    info = inspect(model_folder("reward"))
    assert (info.kind, info.labels) == ("sequence_classifier", 1)


def test_a_chat_template_is_seen(model_folder):
    assert inspect(model_folder("llama", chat=True)).has_chat_template


def test_gpt2_names_its_context_its_own_way(model_folder):
    assert inspect(model_folder("gpt2")).context == 256


def test_the_fingerprint_changes_with_weights_and_configuration(model_folder, folder):
    same = inspect(model_folder("llama")).fingerprint
    assert inspect(folder).fingerprint == same
    other_weights = inspect(model_folder("llama", seed=1)).fingerprint
    edit(folder / "config.json", rms_norm_eps=1e-3)
    assert len({same, other_weights, inspect(folder).fingerprint}) == 3


def test_sharded_weights_are_counted_and_missing_shards_named(tmp_path):
    model, tokenizer = build("llama", byte_tokenizer()), byte_tokenizer()
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    tokenizer.save_pretrained(tmp_path)
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert inspect(tmp_path).parameters == sum(parameter.numel() for parameter in model.parameters())
    shards[0].unlink()
    with pytest.raises(ModelError, match=rf"lacks 1 of {len(shards)} weight files.*{shards[0].name}"):
        inspect(tmp_path)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(ModelError, match=rf"has no {file}.*save_pretrained"):
        inspect(folder)


def test_a_missing_tokenizer_is_named(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer.*tokenizer\.save_pretrained"):
        inspect(folder)


def test_pickled_weights_are_refused_with_the_way_out(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickles.*safe_serialization"):
        inspect(folder)


def test_an_adapter_alone_is_refused(folder):
    (folder / "config.json").rename(folder / "adapter_config.json")
    with pytest.raises(ModelError, match="merge_and_unload"):
        inspect(folder)


@pytest.mark.parametrize(("content", "reason"), [
    (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    (b"nonsense that is no table", "no safetensors file"),
    (b"", "no safetensors file"),
])  # fmt: skip
def test_a_file_that_holds_no_weights_is_told(folder, content, reason):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=reason):
        inspect(folder)


@pytest.mark.parametrize("tensor", [{"data_offsets": [0, 1]}, {"data_offsets": [0, 1], "shape": ["x"]}])
def test_a_table_of_tensors_without_shapes_is_told(folder, tensor):
    table = json.dumps({"weight": tensor}).encode()
    (folder / "model.safetensors").write_bytes(len(table).to_bytes(8, "little") + table + b"0")
    with pytest.raises(ModelError, match="no safetensors file"):
        inspect(folder)


@pytest.mark.parametrize("weight_map", [None, [], {"weight": 1}])
def test_an_index_that_names_no_files_is_told(folder, weight_map):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ModelError, match="which file holds which tensor"):
        inspect(folder)


@pytest.mark.parametrize(("changes", "reason"), [
    ({"vocab_size": "many"}, "`vocab_size`.*'many' and no count"),
    ({"vocab_size": None}, "`vocab_size`"),
    ({"text_config": "small"}, "`text_config`.*no object"),
])  # fmt: skip
def test_a_configuration_of_the_wrong_types_is_told(folder, changes, reason):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ModelError, match=reason):
        inspect(folder)


def test_weights_that_are_cut_short_are_told(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cut short"):
        inspect(folder)


def test_a_damaged_configuration_is_told(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read as JSON"):
        inspect(folder)


@pytest.mark.parametrize(("changes", "reason"), [
    ({"architectures": None}, "names no architecture"),
    ({"architectures": ["BertForMaskedLM"]}, "neither continues text nor values it"),
])  # fmt: skip
def test_what_cannot_score_is_refused(folder, changes, reason):
    edit(folder / "config.json", **changes)
    with pytest.raises(ModelError, match=reason):
        inspect(folder)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_model_with_code_of_its_own_needs_leave(folder, file):
    edit(folder / file, auto_map={"AutoModelForCausalLM": "modeling.Mine"})
    with pytest.raises(UntrustedCodeError, match="administrator"):
        inspect(folder)
    assert inspect(folder, trust_remote_code=True).needs_remote_code


@pytest.mark.parametrize("path", ["/no/such/folder", "./missing", "a b"])
def test_a_folder_that_does_not_exist_is_told(path):
    with pytest.raises(ModelError, match="does not exist"):
        inspect_model(ModelReference(path=path))


def test_a_subfolder_is_looked_into(folder):
    assert inspect(folder.parent, subfolder="model").folder == folder


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_name_is_found_in_the_local_cache(hub_cache, folder):
    revision = "0" * 40
    snapshot = hub_cache / "models--owner--tiny" / "snapshots" / revision
    shutil.copytree(folder, snapshot)
    refs = hub_cache / "models--owner--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text(revision)
    info = inspect_model(ModelReference(path="owner/tiny"), download=False)
    assert info.folder == snapshot
    assert info.path == "owner/tiny"


def test_a_name_that_is_nowhere_is_told(hub_cache):
    with pytest.raises(ModelError, match="not in the local cache"):
        inspect_model(ModelReference(path="owner/absent"), download=False)


def test_models_share_their_tokens_however_their_files_are_written(model_folder, folder):
    ours, theirs = ModelReference(path=str(model_folder("llama"))), ModelReference(path=str(folder))
    edit(folder / "tokenizer.json", truncation={"max_length": 8})
    assert same_tokens(ours, theirs)


def test_a_tokenizer_with_other_tokens_is_another_one(model_folder):
    ours = ModelReference(path=str(model_folder("llama")))
    assert same_tokens(ours, ModelReference(path=str(model_folder("llama", merges=60)))) is True
    assert same_tokens(ours, ModelReference(path=str(model_folder("llama", bos=False)))) is False


def test_what_the_files_do_not_tell_is_not_known(model_folder, folder):
    ours = ModelReference(path=str(model_folder("llama")))
    (folder / "tokenizer.json").write_text("{}")
    assert same_tokens(ours, ModelReference(path=str(folder))) is None
    assert same_tokens(ours, ModelReference(path=str(folder / "nothing"))) is None
