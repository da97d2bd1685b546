"""Whether a reward model is read here as its own forward pass reads it, on its own template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from engine.errors import ModelError
from engine.language_models import LoadedModel
from engine.ragged import Row
from engine.reading import PROBE_TOLERANCE, read_values
from engine.tokens import tokenise
from engine.types import Message, PreferencePair, Response

_ASKED = (Message("user", "What is the capital of France?"),)
_SAID = (*_ASKED, Message("assistant", "It is Paris."), Message("user", "And of Peru?"))
_ANSWERS = ("It is Lima.", "The capital is Lima, a city of eleven million people on the Pacific coast.")


@dataclass(frozen=True, slots=True)
class Probe:
    """How far our reading is from the model's own forward pass."""

    ours: tuple[float, ...]
    """The value of each conversation, read together."""
    own: tuple[float, ...]
    """What `forward` of the model gives each of them by itself."""
    conversations: tuple[str, ...]
    """What was read, as text."""

    @property
    def difference(self) -> float:
        """The largest one."""
        return max(abs(one - other) for one, other in zip(self.ours, self.own, strict=True))

    def sentence(self) -> str:
        """What people are told."""
        return (
            f"Read as its own forward pass reads it: over {len(self.own)} conversations the values differ by "
            f"at most {self.difference:.1g}."
        )


def probe_of(loaded: LoadedModel) -> Probe:
    """The probe of a reward model, made once and told of in its notes. Raises as `probe_reward_model`."""
    if loaded.probe is None:
        loaded.probe = probe_reward_model(loaded)
        loaded.notes.append(f"`{loaded.info.path}`: {loaded.probe.sentence()}")
    probe: Probe = loaded.probe
    return probe


@torch.inference_mode()
def probe_reward_model(loaded: LoadedModel) -> Probe:
    """Reads a few short conversations in both ways.

    The model's own way: what its tokenizer makes of the whole conversation by its template (of the whole text
    where it has none), and `forward`. Raises ModelError, with the numbers, where the values differ by more
    than a thousandth (of their size, where that is above 1); with bfloat16 by more than rounding can.
    """
    pairs = _conversations(loaded.tokenizer)
    ours = _read(loaded, pairs)
    texts, own = [], []
    for pair in pairs:
        for _, response in pair.sides():
            text, ids = _whole(loaded.tokenizer, pair, response)
            texts.append(text)
            read = loaded.model(input_ids=torch.tensor([ids], device=loaded.device))
            own.append(float(read.logits[0, 0]))
    probe = Probe(tuple(ours), tuple(own), tuple(texts))
    tolerance = PROBE_TOLERANCE.get(loaded.dtype, 0.1)
    for one, other, text in zip(ours, own, texts, strict=True):
        if not abs(one - other) <= tolerance * max(1.0, abs(other)):
            raise ModelError(
                f"`{loaded.info.path}` is not read here as its own forward pass reads it: {one:.4f} instead "
                f"of {other:.4f} on `{text}`. Its rewards would be wrong; use another model."
            )
    return probe


def _conversations(tokenizer: Any) -> list[PreferencePair]:
    chosen, rejected = map(Response, _ANSWERS)
    if not tokenizer.chat_template:
        return [PreferencePair("text", "The capital of Peru? ", chosen, rejected)]
    return [
        PreferencePair("one turn", _ASKED, chosen, rejected),
        PreferencePair("more turns", _SAID, chosen, None),
    ]


def _read(loaded: LoadedModel, pairs: list[PreferencePair]) -> list[float]:
    responses = tokenise(pairs, loaded.tokenizer, append_eos=True, max_response_tokens=10_000, judged=True)
    rows = [Row(one.prompt, (one.ids,)) for one in responses]
    values = read_values(loaded, rows, 8192, [[one.closing] for one in responses])
    return [float(np.asarray(of_row[0])[-1]) for of_row in values]


def _whole(tokenizer: Any, pair: PreferencePair, response: Response) -> tuple[str, list[int]]:
    """The conversation as the tokenizer itself makes text and ids of it; a plain text that it does not close
    ends with the EOS, as trainers of reward models write it."""
    if isinstance(pair.prompt, str):
        text = pair.prompt + response.text
        ids = list(tokenizer(text)["input_ids"])
        closes = tokenizer.num_special_tokens_to_add() > 0 and ids[-1] in tokenizer.all_special_ids
        return text, ids if closes or tokenizer.eos_token_id is None else [*ids, tokenizer.eos_token_id]
    turns = [one.as_row() for one in (*pair.prompt, Message("assistant", response.text))]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    return text, list(tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"])
