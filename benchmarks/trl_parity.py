"""Sample-wise DPO in TRL and here: the same rows in the same order, the same settings, every step's loss.

    python benchmarks/trl_parity.py [--model FOLDER --rows FILE] [--steps 20] [--batch 8]

Without a model of one's own it builds the lab and takes its policy and pairs. TRL is no dependency: where it
is not installed, this says so. What is held to: every loss within 1e-4.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from engine.errors import RowError
from engine.formats.canonical import write_pairs
from engine.formats.reading import read
from engine.jobs import train
from engine.lab.build import build
from engine.language_models import load_policy
from engine.tokens import tokenise
from engine.training.data import batch_of, choose_rows
from engine.training.reports import MetricPoints
from engine.training.request import TrainingRequest
from engine.training.resolve import resolve
from engine.types import ModelReference, PreferencePair

HELD_TO = 1e-4
PLAIN = {"rejected_clip": None, "sft_weight": 0.0, "masked_weight": 0.0}
"""DPO without the safeguards of masks: the loss that TRL has."""


def rows_that_fit(model: str, file: Path, most: int, place: Path) -> Path:
    """The first `most` rows whose prompt and responses fit the model's context, and end as prompts do."""
    loaded = load_policy(ModelReference(path=model), device="cpu")
    context = loaded.info.context or 2048

    def fits(pair: PreferencePair) -> bool:
        responses = tokenise([pair], loaded.tokenizer, append_eos=True, max_response_tokens=10**6)
        return len(responses) == 2 and all(len(one.prompt) + len(one.ids) <= context for one in responses)

    pairs = (row for row in read(file) if not isinstance(row, RowError) and isinstance(row.prompt, str))
    write_pairs(place, itertools.islice((pair for pair in pairs if fits(pair)), most))
    return place


def ours(request: TrainingRequest, rows: Path, folder: Path) -> list[float]:
    """The loss of every step of our loop."""
    losses: dict[int, float] = {}

    def report(progress: object = None, chunk: object = None, message: object = None) -> None:
        if isinstance(chunk, MetricPoints):
            losses.update(dict(chunk.points.get("train/loss", ())))

    train.run({"request": request.model_dump(mode="json"), "rows": str(rows), "folder": str(folder)}, report)
    return [losses[step] for step in sorted(losses)]


def trls(request: TrainingRequest, rows: Path, folder: Path) -> list[float]:
    """The loss of every step of TRL's DPOTrainer, which is handed the rows in our order."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    class InOrder(DPOTrainer):
        def _get_train_sampler(self, *_: Any) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

    optimisation = request.optimisation
    assert optimisation.steps is not None
    chosen = choose_rows(rows, resolve(request, rows=sum(1 for _ in read(rows)), parameters=1)).trained
    size = optimisation.batch_size
    order = [
        at
        for update in range(optimisation.steps)
        for at in batch_of(update, size, len(chosen), optimisation.seed)
    ]
    data = Dataset.from_list(
        [
            {
                "prompt": chosen[at].prompt,
                "chosen": chosen[at].chosen.text,  # type: ignore[union-attr]
                "rejected": chosen[at].rejected.text,  # type: ignore[union-attr]
            }
            for at in order
        ]
    )
    tokenizer = AutoTokenizer.from_pretrained(request.model.path)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(request.model.path, dtype=torch.float32)
    trainer = InOrder(
        model=model,
        ref_model=AutoModelForCausalLM.from_pretrained(request.model.path, dtype=torch.float32),
        processing_class=tokenizer,
        train_dataset=data,
        args=DPOConfig(
            output_dir=str(folder), max_steps=optimisation.steps, per_device_train_batch_size=size,
            learning_rate=optimisation.learning_rate, lr_scheduler_type="constant", warmup_steps=0,
            adam_beta1=optimisation.adam_betas[0], adam_beta2=optimisation.adam_betas[1],
            weight_decay=0.0, max_grad_norm=optimisation.max_gradient_norm, beta=request.method.beta,  # type: ignore[union-attr]
            max_length=None, logging_steps=1, report_to="none", use_cpu=True, bf16=False,
            gradient_checkpointing=False, save_strategy="no", disable_tqdm=True, seed=0,
        ),
    )  # fmt: skip
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    options = parser.parse_args()
    try:
        import trl
    except ImportError:
        print("TRL is not installed: nothing to compare with. `pip install trl==1.16.0`, and run this again.")
        return
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        model, file = options.model, options.rows
        if model is None or file is None:
            made = build(Path(scratch) / "lab", lambda progress=None, chunk=None, message=None: None)
            model, file = str(made.base), made.pairs
        rows = rows_that_fit(model, file, options.steps * options.batch, Path(scratch) / "rows.jsonl")
        request = TrainingRequest.model_validate(
            {
                "model": {"path": model},
                "method": {"name": "dpo", **PLAIN},
                "data": {"held_out": 0.0},
                "optimisation": {
                    "steps": options.steps, "batch_size": options.batch, "schedule": "constant",
                    "warmup": 0.0, "learning_rate": options.learning_rate,
                },
                "keeping": {"checkpoint_every": 10**6},
            }
        )  # fmt: skip
        mine = ours(request, rows, Path(scratch) / "ours")
        theirs = trls(request, rows, Path(scratch) / "trl")
    print(f"TRL {trl.__version__}, {model}, {options.steps} steps of {options.batch}\n")
    print("step      TRL     ours   difference")
    for step, (one, other) in enumerate(zip(theirs, mine, strict=True), start=1):
        print(f"{step:4d} {one:9.6f} {other:9.6f} {abs(one - other):11.1e}")
    largest = max(abs(one - other) for one, other in zip(theirs, mine, strict=True))
    print(f"\nlargest difference {largest:.1e}, held to {HELD_TO:.0e}")
    if largest > HELD_TO:
        sys.exit(1)


if __name__ == "__main__":
    main()
