import itertools

import numpy as np
import pytest
import torch

from engine.errors import RequestError
from engine.language_models import load_policy
from engine.ragged import Row
from engine.reading import read_tracks
from engine.sampling import sample
from engine.types import ModelReference
from tests.engine.tiny_models import CONTEXT, build, byte_tokenizer, write_model

TOKENIZER = byte_tokenizer()
EOS = TOKENIZER.eos_token_id


def prompts_of(lengths):
    generator = np.random.default_rng(0)
    return [generator.integers(2, len(TOKENIZER), length).astype(np.int32) for length in lengths]


def all_ids(drawn):
    return [one.ids.tolist() for one in drawn]


@pytest.mark.parametrize("shape", ["llama", "qwen2", "gpt2", "gpt_neox", "mistral"])
def test_a_row_draws_the_same_response_in_every_batch(shape):
    model = build(shape, TOKENIZER)
    prompts, seeds = prompts_of([3, 17, 9, 30, 1, 9]), [5, 6, 7, 8, 9, 2**70 + 1]
    settings = {"eos": [EOS], "max_new_tokens": 12}

    together = sample(model, prompts, seeds, **settings)
    in_small_batches = sample(model, prompts, seeds, **settings, token_budget=50)
    reverse = sample(model, prompts[::-1], seeds[::-1], **settings)[::-1]
    alone = [sample(model, [p], [s], **settings)[0] for p, s in zip(prompts, seeds, strict=True)]

    assert all_ids(together) == all_ids(in_small_batches) == all_ids(reverse) == all_ids(alone)
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)


def test_another_seed_draws_another_response():
    model = build("llama", TOKENIZER)
    prompt = prompts_of([5])[0]

    drawn = sample(model, [prompt] * 20, range(20), eos=[], max_new_tokens=8)

    assert len({tuple(ids) for ids in all_ids(drawn)}) == 20


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 1.0), (1.0, 0.6)])
def test_tokens_come_as_often_as_the_policy_says(temperature, top_p):
    model = build("llama", TOKENIZER)
    prompt, count = prompts_of([5])[0], 4000
    logits = model(torch.tensor(prompt[None]).long()).logits[0, -1].detach()
    chances = (logits / temperature).softmax(0).numpy().astype(float)
    if top_p < 1:
        order = np.argsort(-chances)
        kept = order[: np.searchsorted(np.cumsum(chances[order]), top_p) + 1]
        chances = np.where(np.isin(np.arange(len(chances)), kept), chances, 0)
        chances /= chances.sum()

    drawn = sample(
        model,
        [prompt] * count,
        range(count),
        eos=[],
        max_new_tokens=1,
        temperature=temperature,
        top_p=top_p,
        token_budget=10**6,
    )

    seen = np.bincount([one.ids[0] for one in drawn], minlength=len(chances))
    assert not seen[chances == 0].any()
    often = chances * count >= 5
    expected, seen_often = chances[often] * count, seen[often]
    rest, seen_rest = chances[~often].sum() * count, seen[~often].sum()
    square = ((seen_often - expected) ** 2 / expected).sum() + (seen_rest - rest) ** 2 / max(rest, 1.0)
    assert square < often.sum() + 4 * np.sqrt(2 * often.sum())  # Mean and four deviations of chi square.


def test_both_tokens_of_two_steps_are_drawn_independently():
    model = build("llama", TOKENIZER)
    with torch.no_grad():
        model.lm_head.weight.zero_()  # Every token is as likely as any other, whatever came before.
    drawn = sample(model, prompts_of([5]) * 4000, range(4000), eos=[], max_new_tokens=2, token_budget=10**6)

    first, second = np.array(all_ids(drawn)).T / len(TOKENIZER)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.06
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.06
    assert abs(first.mean() - 0.5) < 0.02
    assert drawn[0].logprobs == pytest.approx([-np.log(len(TOKENIZER))] * 2, rel=1e-5)


def test_temperature_zero_takes_the_likeliest_token():
    model = build("gpt2", TOKENIZER)
    prompt = prompts_of([7])[0]

    drawn = sample(model, [prompt, prompt], [1, 2], eos=[], max_new_tokens=6, temperature=0)

    ids = prompt.tolist()
    for _ in range(6):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert all_ids(drawn) == [ids[7:]] * 2


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_logprobs_are_what_reading_the_response_gives(tmp_path, temperature):
    loaded = load_policy(ModelReference(path=str(write_model(tmp_path, "llama", TOKENIZER))))
    prompts = prompts_of([4, 12, 8])

    drawn = sample(
        loaded.model, prompts, [1, 2, 3], eos=[EOS], max_new_tokens=10, temperature=temperature, top_p=0.9
    )

    rows = [Row(prompt, (one.ids,)) for prompt, one in zip(prompts, drawn, strict=True)]
    for one, (tracks,) in zip(drawn, read_tracks(loaded, rows, 8192), strict=True):
        np.testing.assert_allclose(one.logprobs, tracks.logprobs, atol=1e-4)


def test_a_response_ends_with_the_first_of_the_ends_or_at_its_most_tokens():
    model = build("llama", TOKENIZER)
    prompts = prompts_of([6, 6, 6, 6])
    free = all_ids(sample(model, prompts, range(4), eos=[], max_new_tokens=10))
    eos = [free[0][3], free[1][0]]

    drawn = sample(model, prompts, range(4), eos=eos, max_new_tokens=[10, 10, 2, 0])

    for one, ids, limit in zip(drawn, free, [10, 10, 2, 0], strict=True):
        stop = next((at + 1 for at, token in enumerate(ids) if token in eos), None)
        ended = stop is not None and stop <= limit
        assert one.ended is ended
        assert one.ids.tolist() == ids[: stop if ended else limit]
        assert len(one.logprobs) == len(one.ids)


@pytest.mark.parametrize("shape", ["gpt2", "llama"])
def test_a_response_ends_where_the_context_is_full(shape):
    model = build(shape, TOKENIZER)
    prompts = prompts_of([CONTEXT - 3, 5, CONTEXT, CONTEXT + 9])

    drawn = sample(model, prompts, range(4), eos=[], max_new_tokens=20)

    assert [len(one.ids) for one in drawn] == [3, 20, 0, 0]
    assert not any(one.ended for one in drawn)


def test_the_models_own_settings_change_nothing_and_stay(monkeypatch):
    model = build("llama", TOKENIZER)
    prompts = prompts_of([6, 9])
    plain = all_ids(sample(model, prompts, [1, 2], eos=[], max_new_tokens=8))
    settings = model.generation_config
    settings.update(
        temperature=0.1, top_k=1, repetition_penalty=9.0, forced_eos_token_id=3, do_sample=True, max_length=7
    )
    settings.update(suppress_tokens=plain[0], min_new_tokens=30, eos_token_id=plain[1][0])
    model.train()
    model.lm_head.eval()

    assert all_ids(sample(model, prompts, [1, 2], eos=[], max_new_tokens=8)) == plain
    assert model.generation_config is settings
    assert model.training
    assert not model.lm_head.training


def test_adapters_take_part():
    from peft import LoraConfig

    model = build("llama", TOKENIZER)
    prompts = prompts_of([6, 9])
    before = all_ids(sample(model, prompts, [1, 2], eos=[], max_new_tokens=8))
    model.add_adapter(LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    model.train()

    drawn = sample(model, prompts, [1, 2], eos=[], max_new_tokens=8)

    assert all_ids(drawn) != before
    assert all(parameter.requires_grad for name, parameter in model.named_parameters() if "lora" in name)
    model(torch.tensor([prompts[0].tolist()])).logits.sum().backward()


def test_a_prompt_without_tokens_is_refused():
    model = build("llama", TOKENIZER)

    with pytest.raises(RequestError, match="has no tokens"):
        sample(model, [*prompts_of([3]), np.zeros(0, np.int32)], [1, 2], eos=[], max_new_tokens=4)


def test_nothing_asked_gives_nothing():
    assert sample(build("llama", TOKENIZER), [], [], eos=[], max_new_tokens=4) == []


def test_noise_depends_on_every_bit_of_a_seed():
    model = build("llama", TOKENIZER)
    prompt = prompts_of([5])[0]
    seeds = [0, *(2**bit for bit in range(64))]

    drawn = sample(model, [prompt] * len(seeds), seeds, eos=[], max_new_tokens=8)

    ids = all_ids(drawn)
    assert all(one != other for one, other in itertools.pairwise(ids))
    assert len({tuple(one) for one in ids}) == len(seeds)
