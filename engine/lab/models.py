"""The lab's tokenizer and its tiny Llama: made, kept in Hugging Face folders, and fed.

Knows nothing of how they are trained.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
VOCABULARY = 1300
"""Common words are one token, rarer and longer ones several."""
CONTEXT = 1024


@dataclass(frozen=True, slots=True)
class Encoded:
    """A prompt and a response as the models read them: BOS, prompt, response, EOS."""

    ids: tuple[int, ...]
    prompt_tokens: int
    """BOS and prompt: the response's first token has this position."""
    offsets: tuple[tuple[int, int], ...]
    """Code points of the response that each of its tokens covers; the EOS has (len, len)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded rows. Causal attention needs no mask for padding that only follows."""

    ids: Int[Tensor, "batch tokens"]
    counts: Float[Tensor, "batch tokens"]
    """1 where a token belongs to a response, EOS included; 0 on prompts and padding."""
    last: Int[Tensor, " batch"]
    """Where each row's EOS stands."""


def make_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of the world's text, which reads any other text too, in smaller pieces."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
            ),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def make_policy(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """An untrained Llama of three layers, 64 wide, with weights wide enough to learn within seconds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=64,
                intermediate_size=192,
                num_hidden_layers=3,
                num_attention_heads=4,
                num_key_value_heads=4,
                max_position_embeddings=CONTEXT,
                initializer_range=0.08,
                tie_word_embeddings=True,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )


def encode(tokenizer: PreTrainedTokenizerFast, rows: Sequence[tuple[str, str]]) -> list[Encoded]:
    """Prompts and responses, tokenised apart, with an EOS after every response."""
    prompts = tokenizer([prompt for prompt, _ in rows])["input_ids"]
    responses = tokenizer(
        [response for _, response in rows], add_special_tokens=False, return_offsets_mapping=True
    )
    return [
        Encoded(
            ids=(*prompt, *ids, tokenizer.eos_token_id),
            prompt_tokens=len(prompt),
            offsets=(*map(tuple, offsets), (len(text), len(text))),
        )
        for prompt, ids, offsets, (_, text) in zip(
            prompts, responses["input_ids"], responses["offset_mapping"], rows, strict=True
        )
    ]


def pad(rows: Sequence[Encoded]) -> Batch:
    """Rows of different lengths as one batch; padding is token 0."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    counts = torch.zeros(len(rows), longest)
    for at, row in enumerate(rows):
        ids[at, : len(row.ids)] = torch.tensor(row.ids)
        counts[at, row.prompt_tokens : len(row.ids)] = 1.0
    return Batch(ids, counts, torch.tensor([len(row.ids) - 1 for row in rows]))


def logprobs(model: LlamaForCausalLM, batch: Batch) -> Float[Tensor, "batch tokens"]:
    """Log-probability of every response token given what stands before it, by one plain forward pass; 0 where
    nothing counts."""
    hidden = model.model(input_ids=batch.ids).last_hidden_state[:, :-1]  # (B, T-1, D)
    counted = batch.counts[:, 1:].bool()
    logits = model.lm_head(hidden[counted]).float()  # (counted, vocab)
    chosen = logits.log_softmax(-1).gather(-1, batch.ids[:, 1:][counted].unsqueeze(-1)).squeeze(-1)
    result = torch.zeros_like(batch.counts)
    result[:, 1:][counted] = chosen
    return result


def lengthwise_batches(lengths: Sequence[int], size: int, rng: random.Random) -> Iterator[list[int]]:
    """Indices in batches of rows of like length, in random order, epoch after epoch, for ever."""
    while True:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        batches = []
        for start in range(0, len(order), size * 8):
            like = sorted(order[start : start + size * 8], key=lambda at: lengths[at])
            batches += [like[at : at + size] for at in range(0, len(like), size)]
        rng.shuffle(batches)
        yield from batches


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """A fixed number of threads, since sums over another number of threads round otherwise: the same seed
    then gives the same weights on the same machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def save(model: Any, tokenizer: PreTrainedTokenizerFast, folder: Path, card: str) -> None:
    """A Hugging Face folder: weights as safetensors, configuration, tokenizer and a model card."""
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    model.save_pretrained(folder)
    if bars:
        transformers_logging.enable_progress_bar()
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")
