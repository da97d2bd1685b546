"""Pairs read by every checkpoint of a real training, of all weights and of an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import DataError
from engine.formats.pairs import pair_to_row
from engine.jobs import trace, train
from engine.requests import ScoreRequest, SourceRequest
from engine.scoring import load_models, score
from engine.training.reports import Traced, track_of
from engine.types import ModelReference
from tests.engine.tiny_models import write_model
from tests.engine.training import worlds

PAIRS = worlds.pairs(3)


def nobody(progress: object = None, chunk: object = None, message: object = None) -> None:
    pass


def trained(folder: Path, **fields: Any) -> tuple[dict[str, Any], dict[str, str], str]:
    """A training of six steps with a checkpoint every other: its request, its checkpoints, its model."""
    rows, model = worlds.write_world(folder)
    asked = worlds.training(model, **fields, keeping={"checkpoint_every": 2, "keep": 5})
    request = asked.model_dump(mode="json")
    result = train.run({"request": request, "rows": str(rows), "folder": str(folder / "run")}, nobody)
    found = sorted((folder / "run" / "checkpoints").iterdir())
    return request, {str(int(one.name.removeprefix("step-"))): str(one) for one in found}, result["model"]


def traced(**request: Any) -> Traced:
    heard: list[Traced] = []

    def report(progress: object = None, chunk: object = None, message: object = None) -> None:
        if isinstance(chunk, Traced):
            heard.append(chunk)

    rows = [pair_to_row(pair) for pair in PAIRS]
    result = trace.run({"pairs": rows, "beta": 0.1, **request}, report)
    assert result == {"steps": heard[0].steps}
    return heard[0]


def scored_by(model: str, reference: str) -> list[np.ndarray]:
    """The implicit rewards as scoring gives them."""
    asked = ScoreRequest(
        policy=ModelReference(path=model),
        reference=ModelReference(path=reference),
        sources=[SourceRequest(name="implicit")],
        device="cpu",
    )
    return [one.rewards["implicit"] for one in score(PAIRS, load_models(asked), asked)]


@pytest.mark.parametrize("fields", [{}, {"lora": {"rank": 4}}], ids=["all weights", "adapter"])
def test_the_last_step_is_what_the_final_model_is_scored_as(tmp_path: Path, fields: dict[str, Any]) -> None:
    request, checkpoints, final = trained(tmp_path, **fields)
    found = traced(request=request, checkpoints=checkpoints, final=final, steps=6)
    assert found.steps == [0, 2, 4, 6]
    assert [(one.key, one.side) for one in found.maps][:3] == [
        ("row 0", "chosen"),
        ("row 0", "rejected"),
        ("row 1", "chosen"),
    ]
    for one, expected in zip(found.maps, scored_by(final, request["model"]["path"]), strict=True):
        np.testing.assert_array_equal(one.rewards[track_of(0)], np.zeros(one.tokens))
        np.testing.assert_allclose(one.rewards[track_of(6)], expected, atol=2e-6)
        assert one.totals[track_of(6)] == pytest.approx(float(expected.sum()), abs=1e-5)
        assert np.abs(one.rewards[track_of(2)]).max() > 0
        assert not np.array_equal(one.rewards[track_of(2)], one.rewards[track_of(4)])


def test_where_no_checkpoint_is_left_the_final_model_is_read(tmp_path: Path) -> None:
    request, checkpoints, final = trained(tmp_path)
    alone = traced(request=request, checkpoints={}, final=final, steps=6)
    assert alone.steps == [0, 6]
    whole = traced(request=request, checkpoints=checkpoints, final=None, steps=6)
    for one, other in zip(alone.maps, whole.maps, strict=True):
        np.testing.assert_allclose(one.rewards[track_of(6)], other.rewards[track_of(6)], atol=2e-6)


def test_another_reference_gives_rewards_from_the_first_step_on(tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", "llama", seed=7)
    request, checkpoints, _ = trained(tmp_path, reference={"path": str(other)})
    found = traced(request=request, checkpoints=checkpoints, final=None, steps=6)
    expected = scored_by(request["model"]["path"], str(other))
    np.testing.assert_allclose(found.maps[0].rewards[track_of(0)], expected[0], atol=2e-6)


def test_a_checkpoint_that_is_gone_or_another_models_is_told(tmp_path: Path) -> None:
    request, checkpoints, _ = trained(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        traced(request=request, checkpoints={"2": str(tmp_path / "nowhere")}, final=None, steps=6)
    adapted = {**request, "lora": {"rank": 4}}
    with pytest.raises(DataError, match="another model"):
        traced(request=adapted, checkpoints=checkpoints, final=None, steps=6)
    assert not torch.is_inference_mode_enabled()
