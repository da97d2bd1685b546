"""Thoughts, calls, tools and names reach the chat template, and the whole of an answer is the response."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.conversations import ChatTemplate
from engine.errors import DataError
from engine.formats.rows import row_to_pair
from engine.tokens import tokenise
from tests.engine.chat_templates import tokenizer_of

NEW_LINE = "{{ '\\n' }}"
HERMES = (
    "{% if tools %}<|im_start|>system\n# Tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}{% if m.name %} name={{ m.name }}{% endif %}"
    f"{NEW_LINE}"
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m['content'] }}{% for call in m.tool_calls or [] %}"
    "{% if m['content'] or not loop.first %}" + NEW_LINE + "{% endif %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>'
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OPENS_A_THOUGHT = HERMES.removesuffix("{% endif %}") + "<think>\n{% endif %}"
OTHER_WORDS = (
    "{% if tools %}[TOOLS]{{ tools | tojson }}{% endif %}{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}"
    "{% if m.reasoning_content %}[THINK]{{ m.reasoning_content }}[/THINK]{% endif %}{{ m['content'] }}"
    "{% for call in m.tool_calls or [] %}"
    "[CALL]{{ call.function.name }}({{ call.function.arguments | tojson }})"
    "{% endfor %}{% if m.tool_calls %}<|im_start|>{% else %}<|im_end|>{% endif %}"
    "{% else %}[{{ m['role'] }}{{ m.name or '' }}]{{ m['content'] }}[/]{% endif %}{% endfor %}"
)
TEMPLATES = {"hermes": HERMES, "opens_a_thought": OPENS_A_THOUGHT, "other_words": OTHER_WORDS}
TOOLS = [{"type": "function", "function": {"name": "add", "description": "adds", "parameters": {"a": "int"}}}]
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
USER = {"role": "user", "content": "Name a colour."}
PLAIN = {"role": "assistant", "content": "the cat"}
ANSWERS = {
    "thoughts": {
        "role": "assistant",
        "reasoning_content": "The sky is blue.",
        "content": "Blue is a colour.",
    },
    "a call": {"role": "assistant", "content": None, "tool_calls": [CALL]},
    "words and calls": {"role": "assistant", "content": "Two and two.", "tool_calls": [CALL, CALL]},
    "everything": {
        "role": "assistant",
        "reasoning_content": "One, two.",
        "content": "Four",
        "tool_calls": [CALL],
    },
}
PROMPTS = {
    "one turn": [USER],
    "a name": [{**USER, "name": "Mira"}],
    "a call before": [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "3", "name": "add"},
    ],
}


def tokenizer_with(template):
    tokenizer = copy.deepcopy(tokenizer_of("chatml"))
    tokenizer.chat_template = template
    return tokenizer


def read(row, tokenizer):
    return tokenise([row_to_pair(row)], tokenizer, append_eos=True, max_response_tokens=10_000, judged=True)


def rendered(tokenizer, messages, row, **said):
    messages = [{**one, "content": one["content"] or ""} for one in messages]
    said = {"tools": row.get("tools"), "tokenize": False, **said}
    return tokenizer.apply_chat_template(messages, **said)


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("tools", [None, TOOLS])
def test_the_response_is_all_that_the_template_writes_of_the_answer(template, answer, prompt, tools):
    tokenizer = tokenizer_with(TEMPLATES[template])
    row = {"prompt": PROMPTS[prompt], "chosen": [ANSWERS[answer]], "rejected": [PLAIN], "tools": tools}
    for one, side in zip(read(row, tokenizer), ("chosen", "rejected"), strict=True):
        whole = rendered(tokenizer, PROMPTS[prompt] + row[side], row)
        assert [*one.prompt, *one.ids, *one.closing] == tokenizer(whole, add_special_tokens=False)[
            "input_ids"
        ]
        before = rendered(tokenizer, PROMPTS[prompt], row, add_generation_prompt=True)
        if side == "chosen":
            assert whole.startswith(tokenizer.decode(one.prompt))
            assert before.startswith(tokenizer.decode(one.prompt))
            at = len(tokenizer.decode(one.prompt))
            assert at == len(before) or whole[at] != before[at]
        assert one.eos in ("<|im_end|>", "<|im_start|>")
        assert one.offsets[-1].tolist() == [len(one.response.text)] * 2
        covered = {at for start, end in one.offsets.tolist() for at in range(start, end)}
        assert covered == set(range(len(one.response.text)))


def test_an_answers_tokens_stand_where_people_read_them():
    tokenizer = tokenizer_with(HERMES)
    row = {"prompt": [USER], "chosen": [ANSWERS["everything"]], "rejected": None}
    (one,) = read(row, tokenizer)
    assert one.response.text == (
        '<think>\nOne, two.\n</think>\n\nFour\n<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n'
        "</tool_call>"
    )
    texts = [one.response.text[start:end] for start, end in one.offsets.tolist()]
    assert texts[:-1] == [tokenizer.decode(token) for token in one.ids[:-1]]


@pytest.mark.parametrize(("answer", "field"), [("thoughts", "reasoning_content"), ("a call", "tool_calls")])
def test_an_answer_is_refused_where_the_template_leaves_a_field_of_it_out(answer, field):
    row = {"id": "a7", "prompt": [USER], "chosen": [ANSWERS[answer]], "rejected": [PLAIN]}
    with pytest.raises(DataError, match=f"writes nothing of `{field}`, which an answer of row `a7` has"):
        read(row, tokenizer_of("chatml"))


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(TEMPLATES)),
    st.text(st.sampled_from('ab <>/\n{}"é'), min_size=1, max_size=12),
    st.text(st.sampled_from('ab <>/\n{}"é'), min_size=1, max_size=12),
)
def test_whatever_is_thought_and_said_is_read_as_rendered(template, thought, words):
    tokenizer = tokenizer_with(TEMPLATES[template])
    answer = {"role": "assistant", "reasoning_content": thought, "content": words}
    row = {"prompt": [USER], "chosen": [answer], "rejected": None}
    (one,) = read(row, tokenizer)
    whole = rendered(tokenizer, [USER, answer], row)
    assert [*one.prompt, *one.ids, *one.closing] == ids_of(tokenizer, whole)
    opened = ChatTemplate(tokenizer).opened("r1", row_to_pair(row).prompt)
    assert opened.startswith(tokenizer.decode(one.prompt))
    assert len(opened.rstrip()) <= len(tokenizer.decode(one.prompt)) + len("<think>")
