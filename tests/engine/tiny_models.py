"""Writes tiny models with random weights and a tokenizer trained on the spot, as a user would save them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

TEXT = [
    "The sky is blue and the grass is green. Two and two make four.",
    "Once upon a time there was a small cat. It liked to sleep in the sun!",
    "Der schnelle braune Fuchs; naïve façade, 漢字 and emoji 😀 too.",
]
CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'banned' %}{{ raise_exception('No such role.') }}{% endif %}"
    "<|{{ m.role }}|>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WIDTH = 32
CONTEXT = 256


def byte_tokenizer(
    *, merges: int = 120, bos: bool = True, eos: bool = True, chat: bool = False
) -> PreTrainedTokenizerFast:
    """Byte-level BPE; with `bos` it begins every text with one."""
    specials = ["<s>"] * bos + ["</s>"] * eos
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + len(specials) + merges,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(TEXT * 5, trainer)
    if bos:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", core.token_to_id("<s>"))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>" if bos else None, eos_token="</s>" if eos else None
    )
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _sizes(tokenizer: Any, **others: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.4,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": None,
        **others,
    }


def build(shape: str, tokenizer: Any, seed: int = 0) -> Any:
    """A model of random weights, large enough that a wrong mask or position shows."""
    torch.manual_seed(seed)
    grouped = {"num_key_value_heads": 2}
    makers: Mapping[str, Any] = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**_sizes(tokenizer, **grouped))),
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**_sizes(tokenizer, **grouped))),
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**_sizes(tokenizer))),
        "gpt_neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**_sizes(tokenizer))),
        "mistral": lambda: MistralForCausalLM(
            MistralConfig(**_sizes(tokenizer, **grouped, sliding_window=8))
        ),
        "reward": lambda: LlamaForSequenceClassification(
            LlamaConfig(**_sizes(tokenizer, **grouped), num_labels=1)
        ),
        "encoder": lambda: BertForSequenceClassification(
            BertConfig(**_sizes(tokenizer) | {"pad_token_id": 0}, num_labels=1)
        ),
    }
    return makers[shape]().eval()


def write_model(folder: Path, shape: str, tokenizer: Any | None = None, seed: int = 0) -> Path:
    """Saves such a model with its tokenizer, and returns its folder."""
    tokenizer = byte_tokenizer() if tokenizer is None else tokenizer
    build(shape, tokenizer, seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
