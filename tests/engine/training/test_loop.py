"""The loop: the split changes nothing, a resumed training ends with the same bits, failures are told."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from engine.errors import Cancelled, DataError, RequestError
from engine.jobs import train
from engine.training.checkpoints import Checkpoints
from engine.training.loop import Diverged, parts
from engine.training.reports import CheckpointSaved, MetricPoints, TrainingBegins
from engine.types import Progress
from tests.engine.tiny_models import write_model
from tests.engine.training.worlds import training, write_world


class Heard:
    """What a training reported, as a data base would keep it."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.curves: dict[str, dict[int, float]] = {}
        self.checkpoints: list[CheckpointSaved] = []
        self.begins: list[TrainingBegins] = []
        self.messages: list[str] = []
        self._stop_after = stop_after

    def __call__(
        self, progress: Progress | None = None, chunk: object = None, message: str | None = None
    ) -> None:
        if message:
            self.messages.append(message)
        if isinstance(chunk, TrainingBegins):
            self.begins.append(chunk)
            self.curves = {
                name: {step: value for step, value in points.items() if step <= chunk.step}
                for name, points in self.curves.items()
            }
        if isinstance(chunk, MetricPoints):
            for name, points in chunk.points.items():
                for step, value in points:
                    assert step not in self.curves.setdefault(name, {}), f"{name} has two points at {step}"
                    self.curves[name][step] = value
        if isinstance(chunk, CheckpointSaved):
            self.checkpoints.append(chunk)
            if chunk.step == self._stop_after:
                self._stop_after = None  # It is told again by whoever goes on from it.
                raise Cancelled("stop")


def run(rows: Path, folder: Path, asked: Any, heard: Heard | None = None, **others: Any) -> dict[str, Any]:
    request = {"request": asked.model_dump(mode="json"), "rows": str(rows), "folder": str(folder)}
    return train.run(request | others, heard or Heard())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "final" / "model.safetensors")


def largest_difference(one: Path, other: Path) -> float:
    first, second = weights(one), weights(other)
    return max(float((first[name] - second[name]).abs().max()) for name in first)


METHODS: list[dict[str, Any]] = [
    {"method": {"name": "sft"}},
    {"method": {"name": "rjs"}, "supervision": {"density": "segment", "source": "spans"}},
    {"method": {"name": "dpo"}, "supervision": {"density": "segment", "source": "spans"}},
    {"method": {"name": "dpo", "preference": "ipo", "beta": 0.5}},
    {"method": {"name": "scorer"}},
    {"method": {"name": "reward_model", "reading": "sum"}},
    {
        "method": {"name": "reward_model", "reading": "segment"},
        "supervision": {"density": "segment", "source": "spans"},
    },
]
NAMES = ["sft", "rjs", "dpo", "ipo", "scorer", "rm-sum", "rm-segment"]
SAMPLING = {"responses": 2, "max_new_tokens": 8}
SAMPLING_METHODS: list[dict[str, Any]] = [
    {"method": {"name": "ppo", "epochs": 1, "minibatches": 2, "sampling": SAMPLING}},
    {"method": {"name": "grpo", "form": "mask", "sampling": SAMPLING}},
    {"method": {"name": "rloo", "updates": 2, "sampling": SAMPLING}},
    {"method": {"name": "rjs", "sampling": SAMPLING}},
]
SAMPLING_NAMES = ["ppo", "grpo", "rloo", "rjs-sampled"]


@pytest.mark.parametrize("fields", METHODS + SAMPLING_METHODS, ids=NAMES + SAMPLING_NAMES)
def test_a_training_that_was_stopped_ends_with_the_same_bits(fields: dict[str, Any], tmp_path: Path) -> None:
    rows, model = write_world(tmp_path)
    if fields in SAMPLING_METHODS:
        fields = fields | {"supervision": {"density": "segment"}}
    asked = training(model, **fields, keeping={"checkpoint_every": 2})
    straight, resumed = Heard(), Heard(stop_after=4)
    run(rows, tmp_path / "straight", asked, straight)
    with pytest.raises(Cancelled):
        run(rows, tmp_path / "resumed", asked, resumed)
    run(rows, tmp_path / "resumed", asked, resumed)
    assert [one.step for one in resumed.begins] == [0, 4]
    assert largest_difference(tmp_path / "straight", tmp_path / "resumed") == 0.0
    for name, points in straight.curves.items():
        if not name.startswith("system/"):
            assert resumed.curves[name] == points, name
            assert set(range(1, 7)) <= set(points) or name.startswith("held_out/")


@pytest.mark.parametrize("fields", METHODS, ids=NAMES)
def test_the_split_of_a_batch_changes_nothing(fields: dict[str, Any], tmp_path: Path) -> None:
    rows, model = write_world(tmp_path)
    numbers = {"steps": 4, "batch_size": 12, "learning_rate": 1e-3}
    run(rows, tmp_path / "whole", training(model, **fields, optimisation=numbers))
    run(rows, tmp_path / "parts", training(model, **fields, optimisation=numbers | {"token_budget": 256}))
    assert largest_difference(tmp_path / "whole", tmp_path / "parts") < 2e-5


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    rows, model = write_world(tmp_path)
    fields = {"supervision": {"density": "segment", "source": "spans"}}
    one, two = Heard(), Heard()
    run(rows, tmp_path / "one", training(model, **fields), one)
    run(rows, tmp_path / "two", training(model, **fields, machine={"processes": 2}), two)
    assert largest_difference(tmp_path / "one", tmp_path / "two") < 2e-5
    assert set(two.curves) == set(one.curves)
    for name in ("train/loss", "train/kept_rejected", "held_out/loss", "train/all_masked"):
        assert two.curves[name] == pytest.approx(one.curves[name], abs=1e-4)


def test_the_same_request_gives_the_same_curve(tmp_path: Path) -> None:
    rows, model = write_world(tmp_path)
    heard = [Heard(), Heard()]
    made = [run(rows, tmp_path / f"{at}", training(model), one) for at, one in enumerate(heard)]
    assert heard[0].curves["train/loss"] == heard[1].curves["train/loss"]
    assert made[0]["settled"] == made[1]["settled"]
    assert made[0]["settled"]["versions"]["torch"] == torch.__version__


def test_losses_go_down_and_margins_up(tmp_path: Path) -> None:
    rows, model = write_world(tmp_path)
    heard = Heard()
    run(
        rows,
        tmp_path / "run",
        training(model, optimisation={"steps": 30, "batch_size": 8, "learning_rate": 3e-3}),
        heard,
    )
    loss, margin = (list(heard.curves[name].values()) for name in ("train/loss", "train/margin"))
    assert sum(loss[-5:]) < 0.7 * sum(loss[:5])
    assert margin[0] == pytest.approx(0.0, abs=1e-5)
    assert margin[-1] > 0.5
    assert heard.curves["held_out/loss"][0] == pytest.approx(math.log(2), abs=1e-5)


def test_checkpoints_are_bounded_and_the_best_stays(tmp_path: Path) -> None:
    rows, model = write_world(tmp_path)
    heard = Heard()
    asked = training(model, keeping={"checkpoint_every": 1, "evaluate_every": 1, "keep": 2})
    result = run(rows, tmp_path / "run", asked, heard)
    there = Checkpoints(tmp_path / "run" / "checkpoints", keep=2).kept_steps()
    assert there[-2:] == [5, 6]
    assert len(there) <= 3
    assert result["best_step"] in there
    assert list(heard.checkpoints[-1].kept) == there
    assert all(one.bytes > 1000 for one in heard.checkpoints)


def test_the_final_model_loads_as_any_other_with_its_card_and_request(tmp_path: Path) -> None:
    rows, model = write_world(tmp_path)
    result = run(rows, tmp_path / "run", training(model), origin={"run": 7, "dataset": "mine"})
    folder = Path(result["model"])
    ours, before = (AutoModelForCausalLM.from_pretrained(path) for path in (folder, model))
    moved = (ours.lm_head.weight - before.lm_head.weight).detach().abs().max()
    assert float(moved) > 0
    kept = json.loads((folder / "training.json").read_text())
    assert kept["origin"]["run"] == 7
    assert kept["request"]["optimisation"]["learning_rate"] == 1e-3
    card = (folder / "README.md").read_text()
    assert "dpo" in card
    assert "mine" in card


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's own call
def test_an_adapter_is_merged_and_stands_beside(tmp_path: Path) -> None:
    from peft import PeftModel

    rows, model = write_world(tmp_path)
    run(rows, tmp_path / "run", training(model, lora={"rank": 4}))
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "final").eval()
    base = AutoModelForCausalLM.from_pretrained(model).eval()
    adapted = PeftModel.from_pretrained(base, tmp_path / "run" / "final" / "adapter").eval()
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        ours, theirs = merged(input_ids=ids).logits, adapted(input_ids=ids).logits
        plain = AutoModelForCausalLM.from_pretrained(model).eval()(input_ids=ids).logits
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert float((ours - plain).abs().max()) > 1e-3


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_adapters_fit_layers_that_are_written_the_other_way_round(tmp_path: Path) -> None:
    rows, _ = write_world(tmp_path)
    model = write_model(tmp_path / "gpt2", "gpt2")
    heard = Heard()
    run(rows, tmp_path / "run", training(model, lora={"rank": 4}), heard)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "final")
    before = AutoModelForCausalLM.from_pretrained(model)
    moved = (merged.transformer.h[0].attn.c_attn.weight - before.transformer.h[0].attn.c_attn.weight).detach()
    assert float(moved.abs().max()) > 0


def test_a_policy_that_went_far_is_told_of_and_judged_by_a_suite(tmp_path: Path) -> None:
    from engine.formats.canonical import write_tasks
    from engine.tasks import Regex, Task

    rows, model = write_world(tmp_path)
    write_tasks(tmp_path / "suite.jsonl", [Task(key="one", prompt="The", checker=Regex(pattern="."))])
    suites = [{"name": "words", "path": str(tmp_path / "suite.jsonl")}]
    heard = Heard()
    asked = training(
        model,
        **SAMPLING_METHODS[1],
        optimisation={"steps": 6, "batch_size": 4, "learning_rate": 0.03},
    )
    result = run(rows, tmp_path / "run", asked, heard, suites=suites)
    assert result["settled"]["request"]["keeping"]["best_by"] == "suite/words/all"
    assert set(heard.curves["suite/words/all"]) == set(range(7))
    assert result["metrics"]["train/kl"] > 1
    assert "nats a token from its reference" in result["notes"][-1]


def test_a_reward_model_becomes_a_sequence_classifier(tmp_path: Path) -> None:
    rows, model = write_world(tmp_path)
    result = run(rows, tmp_path / "run", training(model, method={"name": "reward_model"}))
    made = AutoModelForSequenceClassification.from_pretrained(result["model"])
    assert made.config.num_labels == 1
    assert float(made.score.weight.detach().abs().max()) > 0


def test_a_training_that_diverges_says_where_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    rows, model = write_world(tmp_path)
    asked = training(
        model,
        optimisation={
            "steps": 8,
            "batch_size": 4,
            "learning_rate": 1e30,
            "schedule": "constant",
            "warmup": 0,
        },
        keeping={"checkpoint_every": 1},
    )
    heard = Heard()
    with pytest.raises(Diverged, match=r"at step \d+: .*diverged. The checkpoint of step \d+ is kept"):
        run(rows, tmp_path / "run", asked, heard)
    assert heard.checkpoints
    assert not (tmp_path / "run" / "final").exists()


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    rows, model = write_world(tmp_path)
    run(rows, tmp_path / "run", training(model))
    other = write_model(tmp_path / "other", "gpt2")
    with pytest.raises(DataError, match="is of another model"):
        run(rows, tmp_path / "run", training(other))


def test_a_checkpoint_that_was_cut_short_says_what_to_do(tmp_path: Path) -> None:
    rows, model = write_world(tmp_path)
    run(rows, tmp_path / "run", training(model))
    latest = Checkpoints(tmp_path / "run" / "checkpoints", keep=2).latest()
    assert latest is not None
    weights_file = latest / "weights.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:100])
    with pytest.raises(DataError, match="remove its folder"):
        run(rows, tmp_path / "run", training(model))


def test_a_mask_of_another_tokenizer_is_refused_before_anything_trains(tmp_path: Path) -> None:
    from engine.jobs.score_file import score_file
    from engine.requests import ScoreRequest
    from tests.engine.tiny_models import byte_tokenizer

    rows, model = write_world(tmp_path)
    other = write_model(tmp_path / "other", "llama", byte_tokenizer(merges=10))
    maps = tmp_path / "maps.parquet"
    request = ScoreRequest.model_validate(
        {"policy": {"path": str(other)}, "reference": {"path": str(other)}, "sources": [{"name": "implicit"}]}
    )
    score_file(rows, maps, request, Heard())
    asked = training(model, supervision={"density": "segment", "source": "implicit"})
    heard = Heard()
    with pytest.raises(RequestError, match="mask is of another tokenizer"):
        run(rows, tmp_path / "run", asked, heard, rewards=str(maps))
    assert not heard.begins


def test_parts_keep_within_the_budget_and_lose_nobody() -> None:
    class Item:
        def __init__(self, tokens: int) -> None:
            self.tokens = tokens

    items = [Item(tokens) for tokens in (5, 90, 30, 40, 20, 300)]
    made = list(parts(items, 100))
    assert [sum(item.tokens for item in part) for part in made] == [95, 90, 300]
    assert sorted(item.tokens for part in made for item in part) == sorted(item.tokens for item in items)
