"""The lab's job says where everything lies, and its figures are what scoring would find."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from engine.formats.canonical import read_pairs
from engine.jobs import lab
from engine.lab.build import BuildSettings, build
from engine.lab.world import WorldSettings
from engine.requests import ScoreRequest, SourceRequest
from engine.scoring import load_models, score
from engine.types import ModelReference, Progress

SMALL = BuildSettings(
    world=WorldSettings(pairs=6, pool_pairs=8, held_out_pairs=2, documents=60, suite_tasks=6),
    policy_steps=2,
    scorer_steps=2,
    reward_model_steps=2,
)


def quiet(progress: Progress | None = None, chunk: object = None, message: str | None = None) -> None:
    """A report that nobody reads."""


def small_build(folder: Path, report: object) -> object:
    return build(folder, quiet, SMALL)


def test_the_job_names_its_files_and_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "build", small_build)
    result = lab.run({"folder": str(tmp_path), "measure": True}, quiet)
    assert json.loads(json.dumps(result)) == result
    assert result["count"] == len(list(read_pairs(Path(result["pairs"]))))
    for name in ("folder", "pairs", "held_out", "pool", "suite", "base", "scorer", "reward_model"):
        assert Path(result[name]).exists()
    assert set(result["figures"]["auroc"]) == {"all", "adversarial", "in_distribution"}
    assert lab.run({"folder": str(tmp_path), "measure": True}, quiet) == result
    assert lab.run({"folder": str(tmp_path)}, quiet)["figures"] is None


def test_the_plain_forward_agrees_with_scoring(tmp_path: Path) -> None:
    made = build(tmp_path, quiet, SMALL)
    pairs = list(read_pairs(made.pairs))
    plain = lab.implicit_rewards_of(
        LlamaForCausalLM.from_pretrained(made.scorer).eval(),
        LlamaForCausalLM.from_pretrained(made.base).eval(),
        PreTrainedTokenizerFast.from_pretrained(made.base),
        pairs,
    )
    request = ScoreRequest(
        policy=ModelReference(path=str(made.scorer)),
        reference=ModelReference(path=str(made.base)),
        sources=[SourceRequest(name="implicit")],
        beta=lab.BETA,
        device="cpu",
    )
    maps = score(pairs, load_models(request), request)
    for expected, found in zip(plain, maps, strict=True):
        np.testing.assert_allclose(found.rewards["implicit"], expected, atol=2e-6)
