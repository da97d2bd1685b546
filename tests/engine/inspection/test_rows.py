"""What would be read of a file is told before anything is done with it."""

import io
import json

import pytest

from engine.errors import DataError
from engine.inspection.rows import MOST_REFUSED, inspect_rows, turns_of
from engine.types import Message, PreferencePair, Response

MESSAGES = [{"role": "user", "content": "2 + 2?"}]
CHAT = {
    "chosen": [*MESSAGES, {"role": "assistant", "content": "4"}],
    "rejected": [*MESSAGES, {"role": "assistant", "content": "5"}],
}


def seen(*rows, **options):
    return inspect_rows(io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode()), **options)


def test_columns_that_nothing_reads_are_named():
    found = seen({"prompt": "x", "chosen": "y", "rejected": "z", "colour": "blue", "score": None})

    assert found.used == ["prompt", "chosen", "rejected"]
    assert found.left == ["colour"]
    assert any("`colour`" in sentence for sentence in found.odd)


def test_rows_are_counted_by_what_they_are():
    found = seen(
        CHAT,
        {"prompt": "x", "chosen": "same", "rejected": "same"},
        {"prompt": "x", "chosen": "alone", "rejected": None},
        {"prompt": "x", "chosen": ""},
        {**CHAT, "tools": [{"type": "function"}]},
    )

    assert (found.rows, found.pairs, found.refused, found.identical, found.with_tools) == (5, 3, 1, 1, 1)
    assert found.row_formats == {"messages": 2, "preference": 2}
    assert [error.line for error in found.refusals] == [4]
    assert [pair.key for pair in found.first] == ["1", "2", "3"]


def test_refusals_are_counted_beyond_those_that_are_named():
    found = seen(*[{"prompt": "x", "chosen": ""}] * (MOST_REFUSED + 5), CHAT)

    assert found.refused == MOST_REFUSED + 5
    assert len(found.refusals) == MOST_REFUSED


def test_a_folder_is_read_as_an_import_reads_it(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(json.dumps(CHAT) + "\n")

    found = inspect_rows(tmp_path, first=1)

    assert (found.file_type, found.rows, len(found.first)) == ("JSONL", 2, 1)


def test_what_no_import_reads_is_refused_in_the_same_words():
    with pytest.raises(DataError, match="UTF-16"):
        inspect_rows(io.BytesIO('{"prompt": "x"}'.encode("utf-16")))


def test_a_row_is_shown_turn_by_turn_with_what_is_scored_marked():
    search = {"tool_calls": [{"function": {"name": "search", "arguments": {"q": "Lima"}}}]}
    pair = PreferencePair(
        "a",
        (Message("user", "Capital?", {"tools": [{"name": "search"}]}),),
        Response(
            "<tool_call>…",
            turns=(
                Message("assistant", "", search),
                Message("tool", "Lima"),
                Message("assistant", "It is Lima."),
            ),
        ),
        Response("Rome."),
    )

    turns = turns_of(pair)

    assert [(turn.who, turn.is_answer) for turn in turns] == [
        ("user", False),
        ("user, tools", False),
        ("chosen, assistant", True),
        ("chosen, tool", False),
        ("chosen, assistant", True),
        ("rejected", True),
    ]
    assert turns[1].text == '[{"name": "search"}]'
    assert turns[4].text == "It is Lima."
