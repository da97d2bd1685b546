"""What a model reads is shown as it reads it."""

from dataclasses import replace

import pytest

from engine.conversations import ignores_tools
from engine.errors import DataError
from engine.inspection.models import inspect_loaded, load_any, readings
from engine.types import Message, ModelReference, PreferencePair, Response
from tests.engine.chat_templates import CHATS, tokenizer_of
from tests.engine.tiny_models import write_model

PAIR = PreferencePair(
    "r1", (Message("user", "Name a colour."),), Response("Blue is a colour."), Response("The sky is blue.")
)


@pytest.mark.parametrize("name", CHATS)
def test_the_text_shown_is_the_rendered_conversation(name):
    tokenizer = tokenizer_of(name)

    for one, (side, response) in zip(readings(PAIR, tokenizer), PAIR.sides(), strict=True):
        turns = [
            {"role": "user", "content": "Name a colour."},
            {"role": "assistant", "content": response.text},
        ]
        whole = tokenizer.apply_chat_template(turns, tokenize=False)
        assert one.before + one.response + one.ending + one.after == whole
        assert (one.side, one.response) == (side, response.text)


def test_a_prompt_in_text_is_read_as_it_stands():
    (one, _) = readings(replace(PAIR, prompt="A colour: "), tokenizer_of("chatml"))

    assert (one.before, one.response, one.ending, one.after) == ("A colour: ", "Blue is a colour.", "", "")


def test_messages_without_a_template_are_refused(tmp_path):
    loaded = load_any(ModelReference(path=str(write_model(tmp_path / "plain", "llama"))))
    loaded.tokenizer.chat_template = None

    with pytest.raises(DataError, match="no chat template"):
        readings(PAIR, loaded.tokenizer)


def test_a_template_that_ignores_tools_is_told_of():
    assert ignores_tools(tokenizer_of("chatml"))


def test_a_model_is_told_of_with_what_ends_its_turns(tmp_path):
    folder = write_model(tmp_path / "chat", "llama", tokenizer_of("chatml"))

    found = inspect_loaded(load_any(ModelReference(path=str(folder))))

    assert (found.kind, found.architecture) == ("causal_lm", "LlamaForCausalLM")
    assert "<|im_end|>" in found.ends
    assert found.example is not None
    assert found.example.response == "It is Paris."
    assert any("`tools`" in sentence for sentence in found.odd)
    assert found.as_row()["example"]["ending"].startswith("<|im_end|>")
