import dataclasses

import numpy as np
import pytest

from engine.errors import DataError, ModelError, RequestError
from engine.language_models import forget_models
from engine.requests import ScoreRequest
from engine.scoring import check_request, load_models, score
from engine.types import PreferencePair, Response, Span

PAIRS = [
    PreferencePair("a", "The sky is", Response(" blue.", ()), Response(" green 😀.", (Span(1, 6, "error"),))),
    PreferencePair("b", "Once upon a time", Response(" there was a cat. It slept."), None),
    PreferencePair(
        "c", "", Response("漢字"), Response("grass", token_rewards=(1.0,), token_offsets=((0, 5),))
    ),
]
ALL = ["implicit", "rm_prefix", "rm_increment", "spans", "external"]


@pytest.fixture(autouse=True)
def _no_models_left_over():
    yield
    forget_models()


def request_for(*sources, **others):
    return ScoreRequest(sources=[{"name": name} for name in sources], device="cpu", **others)


@pytest.fixture
def full(model_folder):
    return request_for(
        *ALL,
        policy={"path": str(model_folder("llama"))},
        reference={"path": str(model_folder("llama", seed=1))},
        reward_model={"path": str(model_folder("reward", merges=30))},
    )


def test_every_response_gets_a_map_in_order(full):
    maps = score(PAIRS, load_models(full), full)
    assert [(one.key, one.side) for one in maps] == [
        ("a", "chosen"), ("a", "rejected"), ("b", "chosen"), ("c", "chosen"), ("c", "rejected"),
    ]  # fmt: skip
    for one in maps:
        tracks = [one.logprobs, one.reference_logprobs, one.entropies, one.ranks, *one.rewards.values()]
        assert {len(track) for track in tracks} == {one.tokens} == {len(one.offsets)}
        assert set(one.rewards) == set(ALL) == set(one.totals)
        assert one.eos == "</s>"
        assert {track.dtype.name for track in one.rewards.values()} == {"float32"}


def test_the_identities_of_the_sources_hold(full):
    models = load_models(full)
    for one in score(PAIRS, models, full):
        implicit = full.beta * (one.logprobs.astype(float).sum() - one.reference_logprobs.astype(float).sum())
        assert one.totals["implicit"] == pytest.approx(implicit, abs=1e-5)
        levels, increments = one.rewards["rm_prefix"].astype(float), one.rewards["rm_increment"].astype(float)
        first = levels[0] - increments[0]
        assert one.totals["rm_prefix"] == pytest.approx(levels[-1])
        assert one.totals["rm_increment"] == pytest.approx(levels[-1] - first, abs=1e-5)


def test_the_reward_of_the_sequence_is_the_reward_models_own(full, model_folder):
    import torch

    models = load_models(full)
    loaded = models.reward_model
    text = PAIRS[0].prompt + PAIRS[0].chosen.text
    ids = torch.tensor([[*loaded.tokenizer(text)["input_ids"], loaded.tokenizer.eos_token_id]])
    with torch.no_grad():
        own = float(loaded.model(input_ids=ids).logits[0, 0])
    assert score(PAIRS[:1], models, full)[0].totals["rm_prefix"] == pytest.approx(own, abs=1e-5)


def test_the_score_of_a_response_does_not_depend_on_its_neighbours(full):
    models = load_models(full)
    together = score(PAIRS, models, full)
    apart = [one for pair in PAIRS for one in score([pair], models, full)]
    small = score(PAIRS, models, full.model_copy(update={"token_budget": 256}))
    for one, two, three in zip(together, apart, small, strict=True):
        np.testing.assert_allclose(one.logprobs, two.logprobs, atol=1e-5)
        np.testing.assert_allclose(one.rewards["rm_prefix"], two.rewards["rm_prefix"], atol=1e-5)
        np.testing.assert_allclose(one.logprobs, three.logprobs, atol=1e-5)


def test_a_policy_that_is_its_own_reference_is_read_once(model_folder, monkeypatch):
    path = {"path": str(model_folder("llama"))}
    request = request_for("implicit", policy=path, reference=path)
    models = load_models(request)
    assert models.policy is models.reference
    for one in score(PAIRS, models, request):
        assert (one.rewards["implicit"] == 0).all()


def test_a_reward_model_alone_cuts_the_tokens_itself(model_folder):
    request = request_for("rm_prefix", reward_model={"path": str(model_folder("reward"))})
    for one in score(PAIRS, load_models(request), request):
        assert one.logprobs is None
        assert not np.isnan(one.rewards["rm_prefix"]).any()


def test_labels_need_a_policy_for_its_tokens_only(model_folder):
    request = request_for("spans", "external", policy={"path": str(model_folder("gpt2"))})
    maps = score(PAIRS, load_models(request), request)
    assert (maps[0].rewards["spans"] == 1).all()
    assert -1 in maps[1].rewards["spans"]
    assert np.isnan(maps[2].rewards["spans"]).all()
    assert (maps[4].rewards["external"] == 1).all()


def test_without_prompt_and_bos_the_first_token_is_missing(model_folder):
    path = {"path": str(model_folder("gpt2", bos=False))}
    request = request_for("implicit", policy=path, reference=path)
    one = score(PAIRS[2:], load_models(request), request)[0]
    assert np.isnan(one.logprobs).tolist() == [True] + [False] * (one.tokens - 1)
    assert one.ranks[0] == -1
    assert one.prompt_tokens == 0


def test_long_prompts_are_cut_and_what_lies_beyond_the_context_is_missing(model_folder):
    path = {"path": str(model_folder("gpt2"))}
    request = request_for("implicit", policy=path, reference=path)
    pair = PreferencePair("l", "sun " * 400, Response("cat"), Response("sun " * 400))
    cut, beyond = score([pair], load_models(request), request)
    assert cut.truncated_prompt_tokens > 0
    assert cut.prompt_tokens + cut.tokens == 257
    assert not np.isnan(cut.logprobs).any()
    assert beyond.prompt_tokens == 1
    assert np.isnan(beyond.logprobs).tolist() == [False] * 256 + [True] * (beyond.tokens - 256)
    assert set(beyond.ranks[256:]) == {-1}


# ---------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(("source", "missing"), [
    ("implicit", "a policy and a reference"),
    ("rm_prefix", "a reward_model"),
    ("rm_increment", "a reward_model"),
])  # fmt: skip
def test_a_source_without_its_model_is_refused_before_anything_is_loaded(source, missing):
    with pytest.raises(RequestError, match=f"`{source}` needs {missing}"):
        check_request(request_for(source))


def test_labels_without_any_tokenizer_are_refused():
    with pytest.raises(RequestError, match="Name a policy or a reward model"):
        check_request(request_for("spans"))


def test_a_source_is_asked_for_once(model_folder):
    with pytest.raises(RequestError, match="twice"):
        check_request(request_for("spans", "spans", policy={"path": "somewhere"}))


def test_policy_and_reference_must_share_their_tokenizer(model_folder):
    request = request_for(
        "implicit",
        policy={"path": str(model_folder("llama"))},
        reference={"path": str(model_folder("llama", bos=False))},
    )
    with pytest.raises(ModelError, match="different tokenizers"):
        load_models(request)


def test_a_wrong_number_of_token_rewards_names_the_row(full):
    wrong = dataclasses.replace(PAIRS[0], chosen=Response(" blue.", token_rewards=(1.0,) * 9))
    with pytest.raises(DataError, match="row `a` comes with 9 token rewards"):
        score([wrong], load_models(full), full)
