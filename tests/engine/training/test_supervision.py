"""Masks of training: from stored rewards or a frozen scorer, alike; `sample` needs none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import RequestError
from engine.jobs.score_file import score_file
from engine.requests import ScoreRequest
from engine.training.data import TokenisedPair, tokenise_pairs
from engine.training.frozen import FrozenModels, load_frozen
from engine.training.request import TrainingRequest
from engine.training.resolve import resolve
from engine.training.supervision import KeptTokens, StoredRewards, TrainingPair, kept_tokens, supervise
from engine.training.trained_model import TrainedModel, load
from engine.types import SIDES
from tests.engine.tiny_models import write_model
from tests.engine.training.worlds import pairs, training, write_world


def silent(progress: object = None, chunk: object = None, message: object = None) -> None:
    pass


class World:
    """A model, its tokenised pairs, and a second model that scores."""

    def __init__(self, folder: Path) -> None:
        self.rows, self.folder = write_world(folder)
        self.scorer = write_model(folder / "scorer", "llama", seed=3)
        self.model: TrainedModel = load(
            training(self.folder).model, "causal_lm", device="cpu", dtype=torch.float32, seed=0
        )
        self.pairs: list[TokenisedPair] = tokenise_pairs(
            pairs(), self.model.loaded, training(self.folder), sides=SIDES
        ).pairs

    def request(self, **fields: Any) -> TrainingRequest:
        return resolve(training(self.folder, **fields), rows=24, parameters=1000)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def flat(made: list[TrainingPair], track: str = "mask") -> np.ndarray:
    return np.concatenate([getattr(one.sides[side], track) for one in made for side in SIDES])


def test_under_sample_every_token_counts_without_any_reward(world: World) -> None:
    made = supervise(world.pairs, world.request(), FrozenModels(), None).pairs
    assert flat(made).all()
    assert all(one.sides[side].counted for one in made for side in SIDES)
    assert kept_tokens(made).kept == {"chosen": 1.0, "rejected": 1.0}


def test_labelled_spans_mask_what_contradicts_the_preference(world: World) -> None:
    request = world.request(supervision={"density": "token", "source": "spans"})
    made = supervise(world.pairs, request, FrozenModels(), None).pairs
    for pair, tokenised in zip(made, world.pairs, strict=True):
        rejected, one = pair.sides["rejected"], tokenised.sides["rejected"]
        assert one.response.spans is not None
        span = one.response.spans[0]
        wrong = (one.offsets[:, 0] < span.end) & (one.offsets[:, 1] > span.start)
        assert rejected.mask[wrong].all()  # What is wrong agrees with being rejected.


def test_masks_of_stored_rewards_are_those_of_the_frozen_scorer_that_gave_them(
    world: World, tmp_path: Path
) -> None:
    maps = tmp_path / "maps.parquet"
    score = {
        "policy": {"path": str(world.scorer)},
        "reference": {"path": str(world.folder)},
        "sources": [{"name": "implicit"}],
    }
    score_file(world.rows, maps, ScoreRequest.model_validate(score), silent)
    for density in ("segment", "token", "step"):
        stored = world.request(supervision={"density": density, "source": "implicit"})
        computed = world.request(supervision={"density": density}, scorer={"path": str(world.scorer)})
        ours = supervise(world.pairs, stored, FrozenModels(), StoredRewards(maps)).pairs
        frozen = load_frozen(computed, world.model, needs_reference=False)
        theirs = supervise(world.pairs, computed, frozen, None).pairs
        np.testing.assert_array_equal(flat(ours), flat(theirs))
        assert 0 < flat(ours).mean() < 1


def test_soft_weights_take_the_place_of_the_mask(world: World) -> None:
    hard = world.request(supervision={"density": "segment"}, scorer={"path": str(world.scorer)})
    assert hard.supervision.rule is not None
    soft_rule = hard.supervision.rule.model_copy(update={"soft_tau": 0.5})
    soft = hard.model_copy(update={"supervision": hard.supervision.model_copy(update={"rule": soft_rule})})
    frozen = load_frozen(hard, world.model, needs_reference=False)
    weights = flat(supervise(world.pairs, soft, frozen, None).pairs)
    assert weights.dtype == np.float32
    assert ((weights > 0) & (weights < 1)).any()


def test_segment_ends_stand_at_the_last_token_of_each_segment(world: World) -> None:
    request = world.request(supervision={"density": "token", "source": "spans"})
    assert flat(supervise(world.pairs, request, FrozenModels(), None).pairs, "ends").all()
    whole = supervise(world.pairs, world.request(), FrozenModels(), None).pairs
    assert [int(one.sides[side].ends.sum()) for one in whole for side in SIDES] == [1] * 48


def test_rows_that_were_not_scored_are_named(world: World, tmp_path: Path) -> None:
    from engine.formats.canonical import write_pairs

    few = tmp_path / "few.jsonl"
    write_pairs(few, pairs(20))
    maps = tmp_path / "maps.jsonl"
    score_file(
        few,
        maps,
        ScoreRequest.model_validate({"policy": {"path": str(world.folder)}, "sources": [{"name": "spans"}]}),
        silent,
    )
    request = world.request(supervision={"density": "segment", "source": "spans"})
    with pytest.raises(RequestError, match="no rewards of the chosen response of row `row 20`"):
        supervise(world.pairs, request, FrozenModels(), StoredRewards(maps))
    other = world.request(supervision={"density": "segment", "source": "external"})
    with pytest.raises(RequestError, match="no source `external`; it has `spans`"):
        supervise(world.pairs, other, FrozenModels(), StoredRewards(maps))


def test_a_mask_that_rewards_drift_is_warned_of() -> None:
    assert KeptTokens({"chosen": 0.5, "rejected": 0.5}, {}).warnings() == []
    (warning,) = KeptTokens({"chosen": 0.4, "rejected": 0.6}, {}).warnings()
    assert warning is not None
    assert "60% of the rejected tokens" in warning


def test_a_mask_that_drops_nothing_is_warned_of_as_sample_wise_training() -> None:
    (warning,) = KeptTokens({"chosen": 1.0, "rejected": 1.0}, {}).warnings()

    assert "drops nothing" in warning


def test_a_side_of_which_nearly_all_or_hardly_anything_is_kept_is_warned_of() -> None:
    chosen, rejected = KeptTokens({"chosen": 0.99, "rejected": 0.04}, {}).warnings()

    assert "99.0% of the chosen tokens, nearly all" in chosen
    assert "4.0% of the rejected tokens, hardly any" in rejected


def test_a_rule_without_a_source_is_never_trained_without_its_mask(world: World) -> None:
    rule = {"segmenter": {"name": "token"}, "baseline": "median"}
    request = world.request(supervision={"density": "segment", "rule": rule})
    unsourced = request.model_copy(
        update={"supervision": request.supervision.model_copy(update={"source": None})}
    )

    with pytest.raises(RequestError, match="no token rewards to make it of"):
        supervise(world.pairs, unsourced, FrozenModels(), None)
