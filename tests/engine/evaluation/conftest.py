import pytest

from engine.language_models import load_policy
from engine.types import ModelReference
from tests.engine.tiny_models import byte_tokenizer, write_model


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """A policy and a reference of one tokenizer, with a chat template."""
    tokenizer = byte_tokenizer(chat=True)
    folder = tmp_path_factory.mktemp("models")
    paths = [write_model(folder / str(seed), "llama", tokenizer, seed) for seed in (0, 1)]
    return [load_policy(ModelReference(path=str(path))) for path in paths]
