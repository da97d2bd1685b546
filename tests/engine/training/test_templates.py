"""What training reads of a conversation: the tokens that its template writes, and what is left behind."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaConfig, LlamaForCausalLM

from engine.formats.canonical import write_pairs
from engine.jobs.train_file import read_config, train_file
from engine.tokens import last_tokens_of
from engine.training.data import tokenise_pairs
from engine.training.frozen import FrozenModels
from engine.training.supervision import supervise
from engine.training.trained_model import TrainedModel, load
from engine.types import SIDES, Message, ModelReference, PreferencePair, Response
from tests.engine.chat_templates import CHATS, tokenizer_of
from tests.engine.training.worlds import training

ASKED = (Message("user", "Name a colour."),)


def write_policy(name: str, folder: Path, pads_with_eos: bool = False) -> Path:
    tokenizer = tokenizer_of(name)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        initializer_range=0.4,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id if pads_with_eos else None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def policy(folder: Path) -> TrainedModel:
    where = ModelReference(path=str(folder))
    return load(where, "causal_lm", device="cpu", dtype=torch.float32, seed=0)


def silent(progress: object = None, chunk: object = None, message: object = None) -> None:
    pass


@pytest.mark.parametrize("name", CHATS)
def test_a_pair_is_trained_on_the_ids_of_its_conversation(name: str, tmp_path: Path) -> None:
    model = policy(write_policy(name, tmp_path / "m"))
    pair = PreferencePair("r1", ASKED, Response("Blue is a colour."), Response(" \n\nThe cat."))
    request = training(tmp_path / "m", supervision={"density": "sample"})
    read = tokenise_pairs([pair], model.loaded, request, sides=SIDES)
    (trained,) = supervise(read.pairs, request, FrozenModels(), None).pairs
    for side, response in pair.sides():
        turns = [
            {"role": "user", "content": "Name a colour."},
            {"role": "assistant", "content": response.text},
        ]
        whole = list(tokenizer_of(name).apply_chat_template(turns)["input_ids"])
        one = trained.sides[side]
        ids = [*trained.prompt, *one.ids]
        assert ids == whole[: len(ids)]
        counted = np.array(one.ids)[one.completion]
        said = tokenizer_of(name).decode(counted).strip().removesuffix(CHATS[name].ending)
        assert said.split() == response.text.split()


def test_of_two_sides_that_part_within_a_word_only_the_responses_count(tmp_path: Path) -> None:
    model = policy(write_policy("chatml", tmp_path / "m"))
    tokenizer = model.tokenizer
    pair = PreferencePair("r1", "The sk", Response("y is blue."), Response(" is blue."))
    request = training(tmp_path / "m", supervision={"density": "sample"})
    read = tokenise_pairs([pair], model.loaded, request, sides=SIDES)
    (trained,) = supervise(read.pairs, request, FrozenModels(), None).pairs
    eos = tokenizer.eos_token_id
    for side, response in pair.sides():
        one = trained.sides[side]
        assert [*trained.prompt, *one.ids] == [*tokenizer(f"The sk{response.text}")["input_ids"], eos]
    assert not trained.sides["rejected"].completion[0]
    assert trained.sides["chosen"].completion.all()
    counted = trained.sides["rejected"].ids[trained.sides["rejected"].completion]
    assert tokenizer.decode(counted[:-1]) == " is blue."


def test_a_prompt_that_is_cut_keeps_its_bos(tmp_path: Path) -> None:
    model = policy(write_policy("llama_3", tmp_path / "m"))
    pair = PreferencePair("r1", (Message("user", "Name a colour, " * 20),), Response("Blue."), Response("A."))
    request = training(tmp_path / "m", data={"max_prompt_tokens": 12})
    (one,) = tokenise_pairs([pair], model.loaded, request, sides=SIDES).pairs
    assert len(one.prompt) == 12
    assert one.prompt[0] == model.tokenizer.bos_token_id
    assert last_tokens_of(one.prompt, 3, None).tolist() == one.prompt[-3:].tolist()


ROWS = [
    PreferencePair(f"r{at}", ASKED, Response(f"Blue is colour {at}."), Response(f"{at} cats."))
    for at in range(8)
]
CONFIG = """
method: {method}
model: model
rows: rows.jsonl
supervision: {{density: sample}}
optimisation: {{steps: 2, batch_size: 4}}
"""


def trained_into(folder: Path, name: str, method: str, pads_with_eos: bool = False) -> Path:
    write_policy(name, folder / "model", pads_with_eos)
    write_pairs(folder / "rows.jsonl", ROWS)
    (folder / "config.yaml").write_text(CONFIG.format(method=method))
    train_file(read_config(folder / "config.yaml"), folder / "out", silent)
    return folder / "out" / "final"


def test_a_saved_model_names_all_that_ends_a_response(tmp_path: Path) -> None:
    final = trained_into(tmp_path, "gemma", "sft")
    settings = json.loads((final / "generation_config.json").read_text())
    tokenizer = tokenizer_of("gemma")
    assert settings["eos_token_id"] == tokenizer.convert_tokens_to_ids(["<eos>", "<end_of_turn>"])


@torch.no_grad()
@pytest.mark.parametrize("pads_with_eos", [False, True])
def test_a_reward_that_training_tells_is_what_the_saved_model_answers(
    pads_with_eos: bool, tmp_path: Path
) -> None:
    name = "phi_3"  # Its conversations end with the EOS, after the token that ends the turn.
    final = trained_into(tmp_path, name, "reward_model", pads_with_eos)
    saved = AutoModelForSequenceClassification.from_pretrained(final).eval()
    own = []
    for pair in ROWS[:3]:
        turns = [
            {"role": "user", "content": "Name a colour."},
            {"role": "assistant", "content": pair.chosen.text if pair.chosen else ""},
        ]
        ids = tokenizer_of(name).apply_chat_template(turns)["input_ids"]
        own.append(float(saved(input_ids=torch.tensor([list(ids)])).logits[0, 0]))
    assert own == pytest.approx(_rewards(final), abs=1e-5)


def _rewards(final: Path) -> list[float]:
    """The last values of the first chosen responses, as the loop of a reward model reads them."""
    from engine.training.loops.offline import OfflineData, PairExample
    from engine.training.loops.reward_model import RewardModelLoop
    from engine.training.methods.reward_model import RewardModel

    where = ModelReference(path=str(final))
    model = load(where, "sequence_classifier", device="cpu", dtype=torch.float32, seed=0)
    request = training(final, method={"name": "reward_model"}, supervision={"density": "sample"})
    read = tokenise_pairs(ROWS[:3], model.loaded, request, sides=SIDES)
    pairs = supervise(read.pairs, request, FrozenModels(), None).pairs
    loop = RewardModelLoop(OfflineData(pairs, [], request, FrozenModels()), RewardModel())
    values, batches = loop._values(model, [PairExample(one) for one in pairs])
    return loop._rewards(values[0], batches[0]).tolist()


def test_a_training_keeps_the_date_of_the_day_when_it_was_asked_for(tmp_path: Path) -> None:
    trained_into(tmp_path, "llama_3_2", "sft")
    kept = tmp_path / "out" / "training.yaml"
    assert f"template_date: '{date.today()}'" in kept.read_text()
    kept.write_text(kept.read_text().replace(str(date.today()), "2024-02-29"))
    result = train_file(read_config(tmp_path / "config.yaml"), tmp_path / "out", silent)
    assert result["settled"]["request"]["data"]["template_date"] == "2024-02-29"
