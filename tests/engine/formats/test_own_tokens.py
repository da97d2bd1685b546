"""Token rewards that come with their own tokens are placed by these."""

import pytest

from engine.errors import RequestError, RowError
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


LOG = {
    "prompt": "x",
    "response": "a b",
    "response_tokens": ["a", " b"],
    "logprobs": [-1.0, -0.5],
    "ref_logprobs": [-0.5, None],
    "label": True,
}


def test_log_probabilities_give_the_implicit_reward_without_a_model():
    pair = row_to_pair(LOG)
    request = ScoreRequest(sources=[SourceRequest(name="implicit")], beta=0.2)

    (one,) = score([pair], Models(), request)

    assert pair.chosen.token_offsets == ((0, 1), (1, 3))
    assert one.rewards["implicit"].tolist() == pytest.approx([-0.1, float("nan")], nan_ok=True)
    assert one.logprobs.tolist() == [-1.0, -0.5]
    assert repr(row_to_pair(pair_to_row(pair))) == repr(pair)


def test_log_probabilities_of_one_model_alone_stay_beside_the_pair():
    pair = row_to_pair({**LOG, "ref_logprobs": None})

    assert pair.chosen.logprobs is None
    assert pair.meta["chosen_logprobs"] == [-1.0, -0.5]


def test_as_many_values_as_tokens_are_asked_for():
    with pytest.raises(RowError, match="2 entries for 1 values of `chosen_logprobs`"):
        row_to_pair({**LOG, "logprobs": [-1.0]})


def test_a_row_without_log_probabilities_is_named_where_others_bring_them():
    request = ScoreRequest(sources=[SourceRequest(name="implicit")])
    bare = row_to_pair({**LOG, "id": "bare", "logprobs": None, "token_rewards": [1, 2]})

    ((refused, error),) = refusals([row_to_pair(LOG), bare], Models(), request)

    assert refused.key == "bare"
    assert "comes without `logprobs` and `ref_logprobs`" in str(error)


def test_a_source_that_no_row_feeds_is_refused():
    check_request(EXTERNAL, ["token_rewards"])

    with pytest.raises(RequestError, match="`external` needs token rewards, which no row brings"):
        check_request(EXTERNAL, ["logprobs"])
