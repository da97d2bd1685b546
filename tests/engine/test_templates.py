"""What a model reads is the conversation as its template writes it; the response is the policy's words."""

from datetime import date

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from engine.conversations import ChatTemplate, rendered
from engine.endings import about_endings, ends_of_responses
from engine.errors import DataError
from engine.requests import ScoreRequest, SourceRequest
from engine.scoring import Models, load_models, score
from engine.tokens import tokenise, tokenise_prompts
from engine.types import Message, ModelReference, PreferencePair, Response
from tests.engine.chat_templates import CHATS, tokenizer_of

USER, ASSISTANT, SYSTEM = (
    Message("user", "Name a colour."),
    Message("assistant", "Which one?"),
    Message("system", "You are brief."),
)
SHAPES = {
    "one turn": ((USER,), "Blue is a colour."),
    "with a system message": ((SYSTEM, USER), "The sky is blue."),
    "many turns": ((USER, ASSISTANT, Message("user", "Any!")), "Two and two\n\nmake four."),
    "space around it": ((USER,), "\n  The grass is green. \n\n"),
    "with thoughts": ((USER,), "<think>\nThe sky is blue.\n</think>\n\nBlue is a colour."),
}


def fits(name, shape):
    return CHATS[name].takes_system or shape != "with a system message"


EVERY = [(name, shape) for name in CHATS for shape in SHAPES if fits(name, shape)]


def whole_ids(tokenizer, prompt, answer, **said):
    turns = [{"role": one.role, "content": one.content} for one in (*prompt, Message("assistant", answer))]
    return list(tokenizer.apply_chat_template(turns, **said)["input_ids"])


def read(name, prompt, answer, *, judged=False, append_eos=True, **others):
    pair = PreferencePair("r1", prompt, Response(answer), None)
    (one,) = tokenise(
        [pair],
        tokenizer_of(name),
        append_eos=append_eos,
        max_response_tokens=10_000,
        judged=judged,
        **others,
    )
    return one


@pytest.mark.parametrize(("name", "shape"), EVERY)
def test_what_is_read_is_the_rendered_conversation(name, shape):
    prompt, answer = SHAPES[shape]
    whole = whole_ids(tokenizer_of(name), prompt, answer)
    judge, policy = read(name, prompt, answer, judged=True), read(name, prompt, answer)
    assert [*judge.prompt, *judge.ids, *judge.closing] == whole
    assert [*policy.prompt, *policy.ids] == whole[: len(policy.prompt) + len(policy.ids)]
    assert not len(policy.closing)


@pytest.mark.parametrize(("name", "shape"), EVERY)
def test_a_response_is_the_policys_words_and_what_ends_its_turn(name, shape):
    tokenizer, chat = tokenizer_of(name), CHATS[name]
    prompt, answer = SHAPES[shape]
    one = read(name, prompt, answer)
    said = tokenizer.decode(one.ids).strip()
    kept = answer.split("</think>")[-1] if chat.drops_thoughts else answer
    assert said.endswith(chat.ending)
    assert said.removesuffix(chat.ending).split() == kept.split()
    assert one.eos is not None
    assert one.offsets[-1].tolist() == [len(answer)] * 2
    assert covered(one.offsets) == set(range(len(answer)))


def covered(offsets):
    return {at for start, end in offsets.tolist() for at in range(start, end)}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    made = {}

    def make(name, kind):
        if (name, kind) not in made:
            tokenizer = tokenizer_of(name)
            torch.manual_seed(len(made))
            config = LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=512,
                initializer_range=0.4,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                num_labels=1,
                pad_token_id=tokenizer.eos_token_id,
            )
            folder = tmp_path_factory.mktemp(f"{name}-{kind.__name__}")
            kind(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[name, kind] = folder
        return made[name, kind]

    return make


def scored(**models):
    places = {role: ModelReference(path=str(folder)) for role, folder in models.items()}
    source = "implicit" if "policy" in models else "rm_prefix"
    request = ScoreRequest(**places, sources=[SourceRequest(name=source)], dtype="float32", device="cpu")
    return load_models(request), request


def pairs_of(name):
    return [
        PreferencePair(shape, prompt, Response(answer), Response("The grass is green."))
        for shape, (prompt, answer) in SHAPES.items()
        if fits(name, shape)
    ]


@torch.no_grad()
@pytest.mark.parametrize("name", CHATS)
def test_log_probabilities_are_those_of_a_plain_forward_pass(name, folder_of):
    folder = folder_of(name, LlamaForCausalLM)
    models, request = scored(policy=folder, reference=folder)
    plain = LlamaForCausalLM.from_pretrained(folder)
    pairs = pairs_of(name)
    maps = {(one.key, one.side): one for one in score(pairs, models, request)}
    for pair in pairs:
        for side, response in pair.sides():
            found = maps[pair.key, side]
            ids = whole_ids(tokenizer_of(name), pair.prompt, response.text)
            logprobs = plain(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            start = found.prompt_tokens
            wanted = [float(logprobs[at - 1, ids[at]]) for at in range(start, start + found.tokens)]
            np.testing.assert_allclose(found.logprobs, wanted, atol=1e-4)
            assert found.token_ids.tolist() == ids[start : start + found.tokens]


@torch.no_grad()
@pytest.mark.parametrize("name", CHATS)
def test_a_reward_is_what_the_models_own_forward_pass_gives_the_conversation(name, folder_of):
    folder = folder_of(name, LlamaForSequenceClassification)
    models, request = scored(reward_model=folder)
    plain = LlamaForSequenceClassification.from_pretrained(folder)
    pairs = pairs_of(name)
    maps = {(one.key, one.side): one for one in score(pairs, models, request)}
    for pair in pairs:
        for side, response in pair.sides():
            ids = whole_ids(tokenizer_of(name), pair.prompt, response.text)
            own = float(plain(input_ids=torch.tensor([ids])).logits[0, 0])
            assert maps[pair.key, side].rewards["rm_prefix"][-1] == pytest.approx(own, abs=1e-4)


PIECES = [*"ab .\n\té漢😀<>|/", "[INST]", "think", "\n\n", "assistant"]
TURNS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=16).map("".join).filter(str.strip)


@given(name=st.sampled_from(sorted(CHATS)), turns=st.lists(TURNS, min_size=1, max_size=5), answer=TURNS)
@settings(max_examples=150, deadline=None)
def test_any_conversation_is_read_as_it_is_rendered(name, turns, answer):
    turns = turns[: len(turns) - (len(turns) + 1) % 2]
    prompt = tuple(Message("user" if at % 2 == 0 else "assistant", said) for at, said in enumerate(turns))
    whole = whole_ids(tokenizer_of(name), prompt, answer)
    judge, policy = read(name, prompt, answer, judged=True), read(name, prompt, answer)
    assert [*judge.prompt, *judge.ids, *judge.closing] == whole
    assert [*policy.prompt, *policy.ids] == whole[: len(policy.prompt) + len(policy.ids)]
    assert covered(policy.offsets) == set(range(len(answer)))
    said = tokenizer_of(name).decode(policy.ids).strip()
    assert said.removesuffix(CHATS[name].ending).split() == answer.split() or "</think>" in answer


def test_what_a_model_reads_can_be_shown_with_the_answer_marked():
    template = ChatTemplate(tokenizer_of("gemma"))
    (talk,) = rendered("r1", (USER,), [Response(" Blue.\n")], template)
    assert talk.text[: talk.start].endswith("<start_of_turn>model\n")
    assert talk.text[talk.start : talk.end] == "Blue."
    assert talk.after == "<end_of_turn>\n"
    (text,) = rendered("r1", "A colour:", [Response(" blue")], template)
    assert (text.text, text.text[text.start : text.end], text.after) == ("A colour: blue", " blue", "")


# ------------------------------------------------------------------------------------------ what is generated


@pytest.mark.parametrize(
    ("name", "ends_with"),
    [
        ("llama_2", "[/INST]"),
        ("chatml", "<|im_start|>assistant\n"),
        ("answered_alone", "<|im_start|>assistant\n"),
        ("r1_distill", "<|Assistant|><think>\n"),
        ("qwen_3", "<|im_start|>assistant\n"),
    ],
)
def test_a_policy_is_given_the_prompt_with_the_beginning_of_an_answer(name, ends_with):
    opened = ChatTemplate(tokenizer_of(name)).opened("r1", (USER,))
    assert opened.endswith(ends_with)
    pair = PreferencePair("r1", (USER,), Response("x"), None)
    (ids,) = tokenise_prompts([pair], tokenizer_of(name))
    assert ids.tolist() == tokenizer_of(name)(opened, add_special_tokens=False)["input_ids"]


def test_what_the_generation_prompt_has_begun_belongs_to_the_answer():
    assert ChatTemplate(tokenizer_of("r1_distill")).begun("r1", (USER,)) == "<think>\n"
    for name in set(CHATS) - {"r1_distill"}:
        assert ChatTemplate(tokenizer_of(name)).begun("r1", (USER,)) == ""


@pytest.mark.parametrize("name", CHATS)
def test_a_response_ends_at_whatever_ends_a_turn(name):
    tokenizer, chat = tokenizer_of(name), CHATS[name]
    ends = ends_of_responses(tokenizer, [7])
    assert {tokenizer.eos_token_id, 7} <= set(ends)
    if name == "words_for_an_end":
        assert "`[[end]]`, which is no token of its own" in about_endings(tokenizer)[0]
    else:
        assert set(tokenizer(chat.ending, add_special_tokens=False)["input_ids"]) <= {*ends, *spaces(name)}
        assert about_endings(tokenizer) == []


def spaces(name):
    return tokenizer_of(name)(" ", add_special_tokens=False)["input_ids"]


def test_two_tokens_may_end_a_turn():
    one = read("two_endings", (USER,), "Blue.")
    assert tokenizer_of("two_endings").convert_ids_to_tokens(one.ids[-2:]) == ["<|im_end|>", "<|endoftext|>"]
    assert one.offsets[-2:].tolist() == [[5, 5], [5, 5]]
    assert one.eos == "<|endoftext|>"


# -------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("name", "prompt", "sentence"),
    [
        ("gemma", (SYSTEM, USER), "System role not supported"),
        ("gemma", (USER, USER), "roles must alternate"),
        ("mistral", (SYSTEM, USER), "roles must alternate"),
        ("llama_2", (USER, ASSISTANT), "roles must alternate"),
    ],
)
def test_what_a_template_refuses_is_told_in_its_own_words(name, prompt, sentence):
    with pytest.raises(DataError, match=rf"row `r1`: .*{sentence}"):
        read(name, prompt, "Blue.")


# --------------------------------------------------------------------------------------------------- the date


def test_the_date_that_a_template_writes_can_be_pinned():
    tokenizer = tokenizer_of("llama_3_2")
    one = read("llama_3_2", (USER,), "Blue.", template_date=date(2024, 2, 29))
    assert "Today Date: 29 Feb 2024\n" in tokenizer.decode(one.prompt)
    today = read("llama_3_2", (USER,), "Blue.")
    assert f"Today Date: {date.today():%d %b %Y}\n" in tokenizer.decode(today.prompt)
    assert one.ids.tolist() == today.ids.tolist()


def test_a_template_without_a_date_takes_none():
    pinned, plain = (read("chatml", (USER,), "Blue.", template_date=day) for day in (date(2024, 1, 1), None))
    assert pinned.prompt.tolist() == plain.prompt.tolist()


def test_models_read_what_a_request_pins(folder_of):
    folder = folder_of("llama_3_2", LlamaForCausalLM)
    models, request = scored(policy=folder, reference=folder)
    pair = PreferencePair("r1", (USER,), Response("Blue."), None)

    def total(day):
        asked = request.model_copy(update={"template_date": day})
        (one,) = score([pair], Models(models.policy, models.reference), asked)
        return float(one.logprobs.sum())

    assert total(date(2024, 2, 29)) != total(date(2025, 2, 28))
