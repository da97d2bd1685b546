"""One row, in every shape that people write, and what each refusal says."""

from __future__ import annotations

import json
import math
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from engine.errors import RowError
from engine.formats.annotations import span_value
from engine.formats.pairs import MAX_META_BYTES, pair_to_row
from engine.formats.rows import row_to_pair
from engine.types import Message, PreferencePair, Response, Span

PAIR = {"prompt": "p", "chosen": "right", "rejected": "wrong"}
USER = {"role": "user", "content": "Hi"}
GOOD = {"role": "assistant", "content": "Hello!"}
BAD = {"role": "assistant", "content": "What?"}


def refusal(row: dict[str, Any]) -> RowError:
    with pytest.raises(RowError) as caught:
        row_to_pair(row, 7)
    assert caught.value.line == 7
    return caught.value


def test_a_plain_row_is_a_pair() -> None:
    assert row_to_pair({"id": "a", **PAIR}) == PreferencePair("a", "p", Response("right"), Response("wrong"))


@pytest.mark.parametrize(
    ("row", "key"),
    [({"id": 12}, "12"), ({"key": "k"}, "k"), ({"id": None}, "7"), ({}, "7"), ({"id": "a", "key": "b"}, "a")],
)
def test_a_pair_is_named_by_its_id_or_its_line(row: dict[str, Any], key: str) -> None:
    assert row_to_pair({**row, **PAIR}, 7).key == key


def test_the_number_of_the_row_names_it_before_the_line() -> None:
    assert row_to_pair(PAIR, 7, 3).key == "3"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": [USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": "Hi", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": "Hi", "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": [], "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": [USER], "chosen": "Hello!", "rejected": "What?"},
    ],
)
def test_all_conversational_forms_mean_the_same_pair(row: dict[str, Any]) -> None:
    pair = row_to_pair(row)
    assert pair.prompt == (Message("user", "Hi"),)
    assert [response.text for _, response in pair.sides()] == ["Hello!", "What?"]


def test_turns_after_the_prompt_that_both_sides_share_belong_to_it() -> None:
    pair = row_to_pair({"prompt": [USER], "chosen": [BAD, USER, GOOD], "rejected": [BAD, USER, BAD]})
    assert [message.content for message in pair.prompt if isinstance(message, Message)] == [
        "Hi",
        "What?",
        "Hi",
    ]


def test_a_conversation_may_have_one_side_only() -> None:
    pair = row_to_pair({"chosen": None, "rejected": [USER, BAD]})
    assert pair.chosen is None
    assert pair.prompt == (Message("user", "Hi"),)


def test_a_transcript_is_cut_at_its_last_turn() -> None:
    start = "\n\nHuman: Hi\n\nAssistant:"
    pair = row_to_pair({"chosen": f"{start} So what.", "rejected": f"{start} So long."})
    assert (pair.prompt, [response.text for _, response in pair.sides()]) == (
        start,
        [" So what.", " So long."],
    )


def test_shared_words_are_no_prompt() -> None:
    error = refusal({"chosen": "The sky is blue", "rejected": "The sky is green"})
    assert error.field == "prompt"
    assert "empty string is allowed" in error.reason


@pytest.mark.parametrize("column", ["response", "completion"])
@pytest.mark.parametrize(
    ("label", "side"), [(True, "chosen"), (1, "chosen"), (False, "rejected"), (0, "rejected")]
)
def test_a_single_response_takes_the_side_of_its_label(column: str, label: Any, side: str) -> None:
    row = {"prompt": "", column: "green", "label": label, "spans": [[0, 5, "colour"]], "token_rewards": [-1]}
    ((found, response),) = row_to_pair(row).sides()
    assert found == side
    assert response == Response("green", (Span(0, 5, "colour", -1.0),), (-1.0,))


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("fix", 1),
        ("Right", 1),
        ("correct", 1),
        ("good", 1),
        ("fix_adjacent", None),
        ("bug_adjacent", None),
        ("bug", -1),
    ],
)
def test_a_label_praises_blames_or_says_nothing(label: str, value: float | None) -> None:
    assert span_value(label) == value


def test_spans_count_code_points() -> None:
    row = {
        **PAIR,
        "chosen": "👩‍🚀é漢",
        "chosen_spans": [[3, 5, "accent"], {"start": 5, "end": 6, "label": "good"}],
    }
    with_spans = row_to_pair({**row, "chosen": "👩‍🚀e\u0301漢"})
    assert with_spans.chosen is not None
    assert with_spans.chosen.spans == (Span(3, 5, "accent", -1.0), Span(5, 6, "good", 1.0))


def test_not_annotated_differs_from_nothing_found() -> None:
    pair = row_to_pair({**PAIR, "chosen_spans": [], "rejected_spans": None})
    assert pair.chosen is not None
    assert pair.rejected is not None
    assert (pair.chosen.spans, pair.rejected.spans) == ((), None)


@pytest.mark.parametrize("name", ["chosen_token_reward", "chosen_token_rewards"])
def test_missing_rewards_are_nan_and_never_zero(name: str) -> None:
    pair = row_to_pair({**PAIR, name: [1, None, 0.5], "chosen_token_offsets": [[0, 1], [1, 1], [1, 5]]})
    assert pair.chosen is not None
    assert pair.chosen.token_rewards is not None
    assert [math.isnan(reward) for reward in pair.chosen.token_rewards] == [False, True, False]
    assert pair.chosen.token_offsets == ((0, 1), (1, 1), (1, 5))
    assert not pair.meta


def test_other_columns_go_to_meta_as_json_values() -> None:
    row = {**PAIR, "when": datetime(2024, 1, 2), "price": Decimal("1.5"), "bad": math.nan, "picture": b"abc"}
    pair = row_to_pair({**row, "meta": {"when": "earlier", "votes": (1, 2)}})
    assert pair.meta == {
        "when": "2024-01-02T00:00:00",
        "price": "1.5",
        "bad": None,
        "picture": "<3 bytes>",
        "meta.when": "earlier",
        "votes": [1, 2],
    }


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"chosen": ""}, "chosen", "empty"),
        ({"chosen": None, "rejected": None}, None, "no response"),
        ({"chosen": 3}, "chosen", "is a number"),
        ({"chosen": {"text": "x"}}, "chosen", "is an object"),
        ({"chosen": [GOOD]}, "chosen", "different shapes"),
        ({"prompt": None}, "prompt", "missing"),
        ({"prompt": 1}, "prompt", "is a number"),
        ({"prompt": []}, "prompt", "empty conversation"),
        ({"prompt": [{"content": "x"}]}, "prompt[0].role", "missing"),
        ({"prompt": [{"role": "user", "content": None}]}, "prompt[0].content", "null"),
        ({"prompt": ["Hi"]}, "prompt[0]", "a string"),
        ({"prompt": [{"role": "a", "content": "", "tool_calls": [1]}]}, "prompt[0].tool_calls", "as text"),
        ({"chosen": [USER], "rejected": [USER, BAD]}, "chosen", "assistant"),
        ({"chosen": [GOOD, GOOD], "rejected": [USER, BAD]}, "rejected", "before the last turn"),
        (
            {"prompt": "Other", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
            "prompt",
            "not one of the turns",
        ),
        ({"prompt": None, "chosen": [GOOD], "rejected": [BAD]}, "prompt", "missing"),
        ({"id": ""}, "id", "1 to 512"),
        ({"id": True}, "id", "whole number"),
        ({"id": 1.5}, "id", "whole number"),
        ({"spans": []}, "spans", "chosen_spans"),
        ({"chosen_spans": "x"}, "chosen_spans", "list"),
        ({"chosen_spans": [[0, 6, "a"]]}, "chosen_spans[0]", "5 characters"),
        ({"chosen_spans": [[0, 1, "a"], [-1, 1, "a"]]}, "chosen_spans[1]", "from -1"),
        ({"chosen_spans": [[2, 2, "a"]]}, "chosen_spans[0]", "marks nothing"),
        ({"chosen_spans": [[0, True, "a"]]}, "chosen_spans[0]", "whole numbers"),
        ({"chosen_spans": [[0, 1.0, "a"]]}, "chosen_spans[0]", "whole numbers"),
        ({"chosen_spans": [[0, 1]]}, "chosen_spans[0]", "label"),
        ({"chosen_spans": [[0, 1, "a", "b"]]}, "chosen_spans[0]", "no number"),
        ({"chosen": None, "chosen_spans": [[0, 1, "a"]]}, "chosen_spans", "is null"),
        ({"chosen": None, "chosen_token_rewards": [1]}, "chosen_token_rewards", "is null"),
        ({"chosen_token_rewards": []}, "chosen_token_rewards", "list of numbers"),
        ({"chosen_token_rewards": [0, "1"]}, "chosen_token_rewards[1]", "not a number"),
        ({"chosen_token_rewards": [math.inf]}, "chosen_token_rewards[0]", "infinite"),
        ({"chosen_token_rewards": [10**400]}, "chosen_token_rewards[0]", "infinite"),
        ({"chosen_token_rewards": [True]}, "chosen_token_rewards[0]", "not a number"),
        ({"chosen_token_offsets": [[0, 1]]}, "chosen_token_offsets", "needs"),
        (
            {"chosen_token_rewards": [1, 2], "chosen_token_offsets": [[0, 1]]},
            "chosen_token_offsets",
            "1 entries for 2",
        ),
        (
            {"chosen_token_rewards": [1], "chosen_token_offsets": [[0, 9]]},
            "chosen_token_offsets[0]",
            "5 characters",
        ),
        (
            {"chosen_token_rewards": [1, 2], "chosen_token_offsets": [[1, 2], [0, 1]]},
            "chosen_token_offsets[1]",
            "reading order",
        ),
        ({"chosen": "a\x00b"}, "chosen", "U+0000"),
        ({"rejected": "a\ud800b"}, "rejected", "surrogate"),
        ({"note": {"deep": ["fine", "\udfff"]}}, "note.deep[1]", "surrogate"),
        ({"note": {"a\x00": 1}}, "note", "column name"),
        ({"note": "x" * MAX_META_BYTES}, "meta", "the limit"),
        ({"chosen": None, "rejected": None, "response": "x", "label": "good"}, "label", "true"),
    ],
)
def test_a_refusal_names_the_field_and_what_to_do(
    change: dict[str, Any], field: str | None, words: str
) -> None:
    error = refusal({**PAIR, **change})
    assert error.field == field
    assert words in error.reason
    assert error.reason.endswith(".")
    assert error.reason.startswith("The row" if field is None else f"`{field}`")


def test_a_written_row_says_only_what_is_there() -> None:
    pair = PreferencePair("a", "p", None, Response("text", (Span(0, 2, "bug"), Span(2, 4, "odd", 0.5))))
    assert pair_to_row(pair) == {
        "id": "a",
        "prompt": "p",
        "chosen": None,
        "rejected": "text",
        "rejected_spans": [[0, 2, "bug"], [2, 4, "odd", 0.5]],
    }


THOUGHT = {"role": "assistant", "content": "Hello!", "reasoning_content": "They greet."}
TOOLS = [{"type": "function", "function": {"name": "add"}}]


def test_what_else_a_message_says_comes_along() -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add"}}]}
    answered = {"role": "tool", "content": "3", "name": "add", "tool_call_id": "1", "audio": None}
    pair = row_to_pair({"prompt": [USER, called, answered], "chosen": [THOUGHT], "rejected": [BAD]})
    assert [message.others for message in pair.prompt if isinstance(message, Message)] == [
        {},
        {"tool_calls": [{"function": {"name": "add"}}]},
        {"name": "add", "tool_call_id": "1"},
    ]
    assert pair.chosen is not None
    assert pair.chosen.text == "<think>\nThey greet.\n</think>\n\nHello!"
    assert pair.chosen.turns == (Message("assistant", "Hello!", {"reasoning_content": "They greet."}),)
    assert pair.rejected == Response("What?")
    assert row_to_pair(pair_to_row(pair), canonical=True).chosen == pair.chosen


@pytest.mark.parametrize("tools", [TOOLS, '[{"type": "function", "function": {"name": "add"}}]'])
def test_tools_and_a_system_column_go_with_the_prompt(tools: Any) -> None:
    pair = row_to_pair({"prompt": [USER], "system": "Be brief.", "tools": tools, "chosen": [GOOD]})
    assert pair.prompt == (Message("system", "Be brief.", {"tools": TOOLS}), Message("user", "Hi"))
    assert "tools" not in pair.meta
    assert row_to_pair(pair_to_row(pair), canonical=True).prompt == pair.prompt


def test_parts_that_are_text_are_one_text() -> None:
    parts = [{"type": "text", "text": "Hel", "image_url": None}, {"type": "text", "text": "lo!"}]
    pair = row_to_pair({"prompt": [USER], "chosen": [{"role": "assistant", "content": parts}]})
    assert pair.chosen == Response("Hello!")


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"prompt": [{**USER, "weight": 0}]}, "prompt[0].weight", "is not read"),
        ({"prompt": [{**USER, "name": 3}]}, "prompt[0].name", "a number"),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image", "url": "x"}]}]},
            "prompt[0].content[0]",
            "of the type `image`",
        ),
        ({"prompt": [{"role": "user", "content": ["Hi"]}]}, "prompt[0].content[0]", "a string"),
        ({"images": [{"bytes": "x"}]}, "images", "text alone"),
        ({"tools": TOOLS}, "tools", "write `prompt` as a list of messages"),
        ({"system": "Be brief."}, "system", "write `prompt` as a list of messages"),
        ({"prompt": [USER], "tools": "add"}, "tools", "list of objects"),
        ({"prompt": [{"role": "system", "content": "A"}, USER], "system": "B"}, "system", "disagree"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs", "chat templates"),
        (
            {"prompt": [USER], "chosen": [THOUGHT], "rejected": [BAD], "chosen_spans": [[0, 2, "bug"]]},
            "chosen_spans",
            "no place in a response with `reasoning_content`",
        ),
    ],
)
def test_what_would_not_be_read_is_refused_by_its_name(change: Any, field: str, words: str) -> None:
    error = refusal({**PAIR, **change})
    assert error.field == field
    assert words in error.reason


@pytest.mark.parametrize("write", [str, json.dumps])
def test_messages_that_are_text_are_read_as_messages(write: Any) -> None:
    said = {"role": "assistant", "content": 'It\'s "blue",\nis it? \u2028 \\n'}
    pair = row_to_pair({"prompt": "Hi", "chosen": write([USER, said]), "rejected": write([USER, BAD])})
    assert pair.prompt == (Message("user", "Hi"),)
    assert [response.text for _, response in pair.sides()] == [said["content"], "What?"]


def test_text_that_only_looks_like_messages_stays_text() -> None:
    for text in ('[{"role": "admin", "name": "x"}]', "[1, 2]", "[{'a': 'role: content'}]", "[{role}]"):
        assert row_to_pair({"prompt": "p", "chosen": text}).chosen == Response(text)


def test_printed_messages_that_cannot_be_read_are_refused() -> None:
    error = refusal(
        {"prompt": "p", "chosen": "[{'role': 'user', 'content': 'a'}\n {'role': 'assistant', 'con"}
    )
    assert error.field == "chosen"
    assert "printed as text" in error.reason


def test_a_null_label_is_no_choice() -> None:
    error = refusal({"prompt": "", "response": "green", "label": None})
    assert error.field == "label"
    assert "neither chosen nor rejected" in error.reason


START = "\n\nHuman: Hi\n\nAssistant:"


@pytest.mark.parametrize(
    ("chosen", "rejected", "field", "words"),
    [
        (f"{START} A", f"{START} B\n\nHuman: Go on\n\nAssistant: C", "rejected", "before the last turn"),
        (f"{START} A", f"{START} B\n\nHuman: Why?", "rejected", "ends with the human's turn"),
        ("\n\nHuman: Hi", f"{START} B", "chosen", "ends with the human's turn"),
    ],
)
def test_transcripts_that_are_no_pair_are_refused_by_name(
    chosen: str, rejected: str, field: str, words: str
) -> None:
    error = refusal({"chosen": chosen, "rejected": rejected})
    assert error.field == field
    assert words in error.reason
