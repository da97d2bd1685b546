"""A reward model is read as its own forward pass reads it, or not at all."""

from types import MethodType

import numpy as np
import pytest
import torch
from tokenizers import processors
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification

from engine.errors import ModelError
from engine.inspection.probe import probe_reward_model
from engine.language_models import load_reward_model
from engine.ragged import Row
from engine.reading import read_values
from engine.tokens import tokenise
from engine.types import ModelReference, PreferencePair, Response
from tests.engine.chat_templates import CHATS, tokenizer_of
from tests.engine.tiny_models import _sizes, build, byte_tokenizer, write_model


def saved(folder, model, tokenizer):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_reward_model(ModelReference(path=str(folder)))


@pytest.mark.parametrize("name", CHATS)
def test_reward_models_of_every_template_are_read_as_their_own_forward_reads_them(name, tmp_path):
    tokenizer = tokenizer_of(name)
    probe = probe_reward_model(saved(tmp_path / "m", build("reward", tokenizer), tokenizer))

    assert len(probe.own) == 3
    assert probe.difference <= 1e-4
    assert "forward pass" in probe.sentence()


@pytest.mark.parametrize("shape", ["reward", "encoder"])
def test_models_without_a_template_are_read_on_plain_text(shape, tmp_path):
    loaded = load_reward_model(ModelReference(path=str(write_model(tmp_path / "m", shape))))

    assert probe_reward_model(loaded).difference <= 1e-4


def closing_tokenizer():
    """One that closes every text itself, as those of RoBERTa-like models do."""
    tokenizer = byte_tokenizer()
    core = tokenizer.backend_tokenizer
    ids = [(token, core.token_to_id(token)) for token in ("<s>", "</s>")]
    core.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")


def roberta(tokenizer):
    sizes = _sizes(tokenizer) | {"pad_token_id": 1, "max_position_embeddings": 514, "type_vocab_size": 1}
    torch.manual_seed(0)
    return RobertaForSequenceClassification(RobertaConfig(**sizes, num_labels=1)).eval()


def test_prefixes_are_closed_as_whole_texts_are(tmp_path):
    loaded = saved(tmp_path / "m", roberta(closing_tokenizer()), closing_tokenizer())
    pair = PreferencePair("1", "The sky is", Response(" blue and"), None)
    (one,) = tokenise([pair], loaded.tokenizer, append_eos=True, max_response_tokens=99, judged=True)

    ((values,),) = read_values(loaded, [Row(one.prompt, (one.ids,))], 999, [[one.closing]])

    own = []
    for end in range(len(one.ids) + 1):
        ids = [*one.prompt, *one.ids[:end], loaded.tokenizer.eos_token_id]
        own.append(float(loaded.model(input_ids=torch.tensor([ids])).logits[0, 0]))
    assert loaded.tokenizer.eos_token_id not in one.ids
    np.testing.assert_allclose(values, own, atol=1e-5)


def test_positions_that_begin_behind_the_padding_are_respected(tmp_path):
    for name, tokenizer in (("plain", byte_tokenizer()), ("closing", closing_tokenizer())):
        loaded = saved(tmp_path / name, roberta(tokenizer), tokenizer)
        assert probe_reward_model(loaded).difference <= 1e-4


def test_a_model_that_reads_another_place_is_refused_with_the_numbers(tmp_path):
    tokenizer = tokenizer_of("chatml")
    loaded = saved(tmp_path / "m", build("reward", tokenizer), tokenizer)
    probe_reward_model(loaded)
    plain = loaded.model.forward

    def another(self, input_ids, **others):
        return plain(input_ids=input_ids[:, : input_ids.shape[1] // 2], **others)

    loaded.model.forward = MethodType(another, loaded.model)

    with pytest.raises(
        ModelError, match=r"not read here as its own forward pass reads it: -?\d+\.\d+ instead"
    ):
        probe_reward_model(loaded)
