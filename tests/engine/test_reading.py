"""Every way to read a model gives what a plain forward pass of each response by itself gives."""

import contextlib

import numpy as np
import pytest
import torch

from engine import language_models, ragged, reading
from engine.errors import ModelError
from engine.language_models import load_policy, load_reward_model
from engine.ragged import Row
from engine.reading import batches, fitting_threads, plan_of, read_tracks, read_values
from engine.types import ModelReference

SHAPES = ["llama", "qwen2", "gpt2", "gpt_neox", "mistral"]


@pytest.fixture(autouse=True)
def _no_models_left_over():
    yield
    language_models.forget_models()


def random_rows(vocab, *, empty_prompt=False, seed=0):
    draw = np.random.default_rng(seed)
    ids = lambda n: draw.integers(0, vocab, n).astype(np.int32)  # noqa: E731
    rows = [
        Row(ids(12), (ids(9), ids(17))),
        Row(ids(1), (ids(1), ids(30))),
        Row(ids(40), (ids(5),)),
        Row(ids(3), (ids(2), ids(11), ids(4))),
    ]
    return [*rows, Row(ids(0), (ids(6), ids(1)))] if empty_prompt else rows


@torch.no_grad()
def plain(loaded, row, branch):
    """Log-probability, entropy and rank by one ordinary forward pass, in float64 sums."""
    sequence = torch.tensor(np.concatenate([row.prompt, branch]), dtype=torch.long)
    logits = loaded.model(input_ids=sequence[None]).logits[0].double()
    logprobs = torch.log_softmax(logits, -1)
    first = len(row.prompt)
    at = torch.arange(max(first, 1), len(sequence))
    chosen = logprobs[at - 1, sequence[at]]
    entropies = -(logprobs[at - 1].exp() * logprobs[at - 1]).sum(-1)
    ranks = (logits[at - 1] > logits[at - 1, sequence[at]][:, None]).sum(-1)
    return chosen.numpy(), entropies.numpy(), ranks.numpy()


def assert_equal_to_plain(loaded, rows, read):
    for row, tracks in zip(rows, read, strict=True):
        for branch, one in zip(row.branches, tracks, strict=True):
            logprobs, entropies, ranks = plain(loaded, row, branch)
            known = slice(len(branch) - len(logprobs), None)
            np.testing.assert_allclose(one.logprobs[known], logprobs, atol=1e-5, rtol=0)
            np.testing.assert_allclose(one.entropies[known], entropies, atol=1e-5, rtol=0)
            assert np.abs(one.ranks[known] - ranks).max(initial=0) == 0
            assert np.isnan(one.logprobs[: known.start]).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("budget", [64, 8192])
def test_a_ragged_pass_equals_a_plain_one(model_folder, shape, budget):
    loaded = load_policy(ModelReference(path=str(model_folder(shape))), device="cpu")
    assert plan_of(loaded) == "ragged"
    rows = random_rows(loaded.vocab_size, empty_prompt=True)
    assert_equal_to_plain(loaded, rows, read_tracks(loaded, rows, budget))


@pytest.mark.parametrize("shape", ["llama", "mistral"])
@pytest.mark.parametrize("plan", ["padded", "alone"])
def test_the_other_ways_to_read_give_the_same(model_folder, shape, plan):
    loaded = load_policy(ModelReference(path=str(model_folder(shape))), device="cpu")
    loaded.plan = plan
    rows = random_rows(loaded.vocab_size, empty_prompt=True)
    assert_equal_to_plain(loaded, rows, read_tracks(loaded, rows, 256))


@pytest.mark.parametrize("shape", ["llama", "mistral"])
def test_a_long_branch_is_attended_in_blocks(model_folder, shape, monkeypatch):
    monkeypatch.setattr(ragged, "QUERY_BLOCK", 4)
    monkeypatch.setattr(ragged, "KEPT_MASK_NUMBERS", 40)
    loaded = load_policy(ModelReference(path=str(model_folder(shape))), device="cpu")
    rows = random_rows(loaded.vocab_size)
    assert_equal_to_plain(loaded, rows, read_tracks(loaded, rows, 8192))


def test_the_models_own_attention_is_back_after_a_pass(model_folder):
    loaded = load_policy(ModelReference(path=str(model_folder("llama"))), device="cpu")
    before = loaded.model.config._attn_implementation
    read_tracks(loaded, random_rows(loaded.vocab_size), 8192)
    assert loaded.model.config._attn_implementation == before


def test_what_ragged_attention_cannot_do_is_read_in_padded_batches(model_folder, monkeypatch):
    def refuse(*arguments, **others):
        raise NotImplementedError

    loaded = load_policy(ModelReference(path=str(model_folder("qwen2"))), device="cpu")
    monkeypatch.setattr(reading, "ragged_states", refuse)
    assert plan_of(loaded) == "padded"
    assert "padded batches" in loaded.notes[0]
    rows = random_rows(loaded.vocab_size)
    assert_equal_to_plain(loaded, rows, read_tracks(loaded, rows, 8192))


def test_an_unknown_head_is_left_to_the_model(model_folder):
    loaded = load_policy(ModelReference(path=str(model_folder("llama"))), device="cpu")
    loaded._head = lambda hidden: hidden.new_zeros(len(hidden), loaded.vocab_size)
    assert plan_of(loaded) == "alone"
    rows = random_rows(loaded.vocab_size)
    assert_equal_to_plain(loaded, rows, read_tracks(loaded, rows, 8192))


def test_values_are_those_of_every_prefix(model_folder):
    loaded = load_reward_model(ModelReference(path=str(model_folder("reward"))), device="cpu")
    assert plan_of(loaded) == "ragged"
    assert_values_of_prefixes(loaded, atol=1e-5)


def test_a_reward_model_that_sees_both_ways_is_read_prefix_by_prefix(model_folder):
    loaded = load_reward_model(ModelReference(path=str(model_folder("encoder"))), device="cpu")
    assert plan_of(loaded) == "prefixes"
    assert_values_of_prefixes(loaded, atol=1e-5)


@torch.no_grad()
def assert_values_of_prefixes(loaded, atol):
    rows = random_rows(loaded.vocab_size, empty_prompt=True)
    for row, read in zip(rows, read_values(loaded, rows, 256), strict=True):
        for branch, values in zip(row.branches, read, strict=True):
            assert len(values) == len(branch) + 1
            for length, value in enumerate(values):
                prefix = torch.tensor(np.concatenate([row.prompt, branch[:length]]), dtype=torch.long)
                if not len(prefix):
                    assert np.isnan(value)
                else:
                    assert abs(float(loaded.model(input_ids=prefix[None]).logits[0, 0]) - value) < atol


def test_a_model_that_sees_ahead_is_no_policy(model_folder, monkeypatch):
    loaded = load_policy(ModelReference(path=str(model_folder("llama"))), device="cpu")
    monkeypatch.setattr(reading, "_is_causal", lambda *_: False)
    with pytest.raises(ModelError, match="causal LM"):
        plan_of(loaded)


def test_batches_hold_every_row_once_and_keep_the_budget():
    rows = random_rows(50)
    for plan in ("ragged", "padded", "alone"):
        read = list(batches(rows, 60, plan))
        assert sorted(index for batch in read for index in batch) == list(range(len(rows)))
    for batch in batches(rows, 60, "ragged"):
        assert len(batch) == 1 or sum(rows[index].tokens for index in batch) <= 60
    assert all(len(batch) == 1 for batch in batches(rows, 8192, "alone"))


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_small_model_is_read_with_as_many_threads_as_serve_it(model_folder):
    loaded = load_policy(ModelReference(path=str(model_folder("llama"))), device="cpu")
    with fitting_threads(loaded):
        assert torch.get_num_threads() == loaded.threads in (1, 2)
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_threads_are_tried_once_and_given_back_to_the_next_model(model_folder, monkeypatch):
    small = load_policy(ModelReference(path=str(model_folder("llama"))), device="cpu")
    small.threads = 1
    large = load_policy(ModelReference(path=str(model_folder("qwen2"))), device="cpu")
    with contextlib.suppress(KeyError), fitting_threads(small):
        assert torch.get_num_threads() == 1
        raise KeyError
    monkeypatch.setattr(reading, "SMALL_PARAMETERS", 1)
    with fitting_threads(large):
        assert torch.get_num_threads() == 2
