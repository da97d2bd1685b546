"""Scored responses are preferred by a rule that a person states, never by having been read."""

import io
import json

import pytest

from engine.errors import DataError, RequestError, RowError
from engine.formats.chosen_by import ChosenBy
from engine.formats.reading import read

HELPSTEER = [
    {"prompt": "a", "response": "good", "helpfulness": 4, "verbosity": 1},
    {"prompt": "a", "response": "bad", "helpfulness": 1, "verbosity": 2},
    {"prompt": "a", "response": "fair", "helpfulness": 2, "verbosity": 2},
    {"prompt": "b", "response": "alone", "helpfulness": 3, "verbosity": 2},
    {"prompt": "c", "response": "same", "helpfulness": 3, "verbosity": 2},
    {"prompt": "c", "response": "level", "helpfulness": 3, "verbosity": 2},
]


def found(rows, rule=None):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    chosen_by = None if rule is None else ChosenBy.parse(rule)
    return list(read(io.BytesIO(text.encode()), chosen_by=chosen_by)), chosen_by


@pytest.mark.parametrize("score", ["reward", "score", "advantage", "helpfulness", "format_reward"])
@pytest.mark.parametrize("response", ["response", "completion"])
def test_a_scored_response_is_not_taken_for_chosen(score, response):
    (row,), _ = found([{"prompt": "a", response: "b", score: 0.3}])

    assert isinstance(row, RowError)
    assert row.field == score
    assert "chosen_by" in row.reason


def test_a_response_without_a_score_is_still_a_demonstration():
    (pair,), _ = found([{"prompt": "a", "completion": "b"}])

    assert pair.chosen.text == "b"


def test_a_label_says_it_whatever_the_score_is():
    (pair,), _ = found([{"prompt": "a", "response": "b", "reward": 3, "label": False}])

    assert pair.rejected.text == "b"


def test_responses_to_one_prompt_are_compared_and_what_is_left_out_is_counted():
    pairs, rule = found(HELPSTEER, "helpfulness")

    assert [(pair.chosen.text, pair.rejected.text) for pair in pairs] == [("good", "bad")]
    assert (rule.singles, rule.ties, rule.between) == (1, 1, 1)
    assert len(rule.told()) == 3
    assert pairs[0].meta["chosen_helpfulness"] == 4


def test_a_threshold_labels_each_response():
    pairs, _ = found(HELPSTEER, "helpfulness>2.5")

    assert [pair.chosen is not None for pair in pairs] == [True, False, False, True, True, True]


def test_rows_of_a_conversation_are_compared_by_their_messages():
    turns = [{"role": "user", "content": "2 + 2?"}]
    rows = [
        {"prompt": turns, "completion": [{"role": "assistant", "content": text}], "reward": reward}
        for text, reward in (("4", 1.0), ("5", 0.0))
    ]

    (pair,), _ = found(rows, "reward")

    assert (pair.chosen.text, pair.rejected.text) == ("4", "5")
    assert pair.prompt[0].content == "2 + 2?"


def test_token_rewards_stay_with_their_side():
    rows = [
        {"prompt": "a", "response": "xy", "reward": 1, "token_rewards": [1.0, 2.0]},
        {"prompt": "a", "response": "z", "reward": 0, "token_rewards": [-1.0]},
    ]

    (pair,), _ = found(rows, "reward")

    assert (pair.chosen.token_rewards, pair.rejected.token_rewards) == ((1.0, 2.0), (-1.0,))


def test_a_row_without_the_column_is_refused_by_its_name():
    rows, _ = found([*HELPSTEER, {"prompt": "d", "response": "e", "helpfulness": None}], "helpfulness>2")

    assert [isinstance(row, RowError) for row in rows] == [False] * 6 + [True]
    assert rows[-1].field == "helpfulness"


def test_a_column_that_is_not_there_is_told_with_those_that_are():
    rows, _ = found(HELPSTEER, "helpfulnes>2")

    assert "`helpfulnes` is no number here (there are `helpfulness`, `verbosity`)" in rows[0].reason


def test_pairs_stay_as_they_are():
    pair = {"prompt": "a", "chosen": "b", "rejected": "c"}

    for row in (pair, {**pair, "response": "d", "reward": 1}):
        assert found([row], "reward")[0] == found([row])[0]


def test_nothing_to_compare_is_said():
    with pytest.raises(DataError, match="1 prompt with a single response"):
        found(HELPSTEER[3:4], "helpfulness")


@pytest.mark.parametrize("rule", ["", ">3", "reward>high", "reward>nan"])
def test_a_rule_that_is_none_is_refused(rule):
    with pytest.raises(RequestError, match="is no rule"):
        ChosenBy.parse(rule)


@pytest.mark.parametrize("rule", ["reward", "reward>0.5", "helpfulness>3"])
def test_a_rule_is_written_as_it_is_read(rule):
    assert str(ChosenBy.parse(rule)) == rule
