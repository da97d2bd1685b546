"""Small real data and models for tests of training: pairs of short sentences, a tiny Llama on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.formats.canonical import write_pairs
from engine.training.request import TrainingRequest
from engine.types import PreferencePair, Response, Span
from tests.engine.tiny_models import write_model

COLOURS = ("blue", "green", "red", "grey", "white", "black", "golden", "pale")


def pairs(count: int = 24) -> list[PreferencePair]:
    """Pairs whose chosen response ends well and whose rejected one is blamed at its last word."""
    made = []
    for at in range(count):
        thing = ("sky", "grass", "cat", "sun")[at % 4]
        good, bad = COLOURS[at % 8], COLOURS[(at + 3) % 8]
        begin = f" {thing} is {'very ' * (at % 3)}"
        made.append(
            PreferencePair(
                f"row {at}",
                f"Once upon a time, {at}: the",
                Response(f"{begin}{good}.", (Span(len(begin), len(begin + good), "right", 1.0),)),
                Response(f"{begin}{bad} and sad.", (Span(len(begin), len(begin + bad), "wrong"),)),
            )
        )
    return made


def write_world(folder: Path, count: int = 24) -> tuple[Path, Path]:
    """The rows as canonical JSONL, and a tiny Llama."""
    rows = folder / "rows.jsonl"
    write_pairs(rows, pairs(count))
    return rows, write_model(folder / "model", "llama")


def training(model: Path, **fields: Any) -> TrainingRequest:
    """A request of small numbers with the given fields; methods that sample have a scorer."""
    asked: dict[str, Any] = {
        "method": {"name": "dpo"},
        "model": {"path": str(model)},
        "data": {"held_out": 0.2},
        "optimisation": {"steps": 6, "batch_size": 4, "learning_rate": 1e-3},
    }
    asked |= fields
    if "sampling" in asked["method"]:
        asked["scorer"] = {"path": str(write_model(model.parent / "scorer", "llama", seed=5))}
    return TrainingRequest.model_validate(asked)
