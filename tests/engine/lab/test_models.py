"""The lab's tokenizer loses nothing, and its log-probabilities are those of a plain forward pass."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from engine.lab.models import encode, logprobs, make_policy, make_tokenizer, pad, threads
from engine.lab.pretrain import pretrain
from engine.lab.scorer import token_values, train_dpo_scorer, train_reward_model

ROWS = [
    ("Tell me the capital of Peru.", "The capital of Peru is Lima."),
    ("Tell me what 2 plus 3 makes.", "2 plus 3 makes 5, I hope that helps, and that is all I know."),
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads of models this small only wait for one another."""
    with threads(1):
        yield


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer([f"{prompt} {response}" for prompt, response in ROWS] * 3)


@pytest.fixture(scope="module")
def policy(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return make_policy(tokenizer, seed=0).eval()


@pytest.mark.parametrize("text", ["The capital is Lima.", "naïve 👩‍🚀 你好\nline"])
def test_any_text_is_read_back_as_it_was(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_a_prompt_begins_with_bos_and_a_response_ends_with_eos(tokenizer: PreTrainedTokenizerFast) -> None:
    row = encode(tokenizer, ROWS)[0]
    assert row.ids[0] == tokenizer.bos_token_id
    assert row.ids[-1] == tokenizer.eos_token_id
    assert len(row.ids) - row.prompt_tokens == len(row.offsets)


def test_offsets_cover_the_response(tokenizer: PreTrainedTokenizerFast) -> None:
    for row, (_, text) in zip(encode(tokenizer, ROWS), ROWS, strict=True):
        assert "".join(text[start:end] for start, end in row.offsets) == text
        assert row.offsets[-1] == (len(text), len(text))


def test_padding_changes_no_logprob(tokenizer: PreTrainedTokenizerFast, policy: LlamaForCausalLM) -> None:
    rows = encode(tokenizer, ROWS)
    with torch.no_grad():
        padded = logprobs(policy, pad(rows))
        for at, row in enumerate(rows):
            logits = policy(input_ids=torch.tensor([row.ids])).logits[0].log_softmax(-1)
            plain = [logits[t - 1, row.ids[t]].item() for t in range(row.prompt_tokens, len(row.ids))]
            assert padded[at, row.prompt_tokens : len(row.ids)].tolist() == pytest.approx(plain, abs=1e-5)


def test_pretraining_lowers_the_loss(tokenizer: PreTrainedTokenizerFast) -> None:
    losses = [
        pretrain(make_policy(tokenizer, seed=0), encode(tokenizer, ROWS), steps=steps, batch_size=2)
        for steps in (1, 15)
    ]
    assert losses[1] < losses[0] - 1


def test_the_dpo_scorer_raises_what_is_chosen_and_leaves_the_base_alone(
    tokenizer: PreTrainedTokenizerFast, policy: LlamaForCausalLM
) -> None:
    before = {name: weight.clone() for name, weight in policy.state_dict().items()}
    prompt = ROWS[0][0]
    chosen, rejected = encode(tokenizer, [(prompt, "It is Lima."), (prompt, "It is Rome.")])
    scorer = train_dpo_scorer(policy, [(chosen, rejected)], steps=8, batch_pairs=1)
    batch = pad([chosen, rejected])
    with torch.no_grad():
        rewards = (logprobs(scorer, batch) - logprobs(policy, batch)).sum(-1)
    assert rewards[0] > rewards[1]
    assert all(torch.equal(before[name], weight) for name, weight in policy.state_dict().items())


def test_the_reward_model_prefers_what_is_chosen_at_its_last_token(
    tokenizer: PreTrainedTokenizerFast, policy: LlamaForCausalLM
) -> None:
    prompt = ROWS[0][0]
    chosen, rejected = encode(tokenizer, [(prompt, "It is Lima."), (prompt, "It is Rome.")])
    model = train_reward_model(policy, [(chosen, rejected)], steps=8, batch_pairs=1)
    with torch.no_grad():
        values = token_values(model, pad([chosen, rejected]))
    assert values[0, len(chosen.ids) - 1] > values[1, len(rejected.ids) - 1]
