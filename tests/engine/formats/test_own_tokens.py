"""Token rewards that come with their own tokens are placed by these."""

import pytest

from engine.errors import RowError
from engine.formats.pairs import pair_to_row
from engine.formats.rows import row_to_pair
from engine.requests import ScoreRequest, SourceRequest
from engine.scoring import Models, check_request, refusals, score

ROW = {
    "prompt": "Say hi",
    "chosen": "Hi, 空\r\n!",
    "rejected": "No.",
    "chosen_tokens": ["Hi", ", ", "空\r\n", "!"],
    "chosen_token_rewards": [0.1, -0.4, 0.2, 0.5],
    "rejected_tokens": ["No", "."],
    "rejected_token_rewards": [-1, 0.25],
}
EXTERNAL = ScoreRequest(sources=[SourceRequest(name="external")])


def test_rewards_are_placed_by_the_tokens_and_survive_a_round_trip():
    pair = row_to_pair(ROW)

    assert pair.chosen.token_offsets == ((0, 2), (2, 4), (4, 7), (7, 8))
    assert "chosen_tokens" not in pair.meta
    assert row_to_pair(pair_to_row(pair)) == pair


def test_tokens_that_are_not_the_response_are_refused_with_the_place():
    with pytest.raises(RowError, match="differ from it at character 2") as refusal:
        row_to_pair({**ROW, "chosen_tokens": ["Hi", "Ġ,", "空\r\n", "!"]})

    assert refusal.value.field == "chosen_tokens"


def test_no_model_is_needed_to_score_them():
    pair = row_to_pair(ROW)
    check_request(EXTERNAL)

    chosen, rejected = score([pair], Models(), EXTERNAL)

    assert chosen.rewards["external"].tolist() == pytest.approx([0.1, -0.4, 0.2, 0.5])
    assert rejected.offsets.tolist() == [[0, 2], [2, 3]]
    assert rejected.totals["external"] == pytest.approx(-0.75)


def test_rows_without_their_tokens_need_a_model_and_are_named():
    pair = row_to_pair({"id": "bare", "prompt": "x", "chosen": "y", "chosen_token_rewards": [1.0]})

    ((refused, error),) = refusals([pair], Models(), EXTERNAL)

    assert refused.key == "bare"
    assert "name a policy" in str(error)


def test_a_single_response_brings_its_tokens_too():
    row = {"prompt": "x", "response": "a b", "label": True, "tokens": ["a", " b"], "token_rewards": [1, 2]}

    assert row_to_pair(row).chosen.token_offsets == ((0, 1), (1, 3))
