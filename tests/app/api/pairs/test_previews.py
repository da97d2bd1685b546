"""What training would see of a pair, over the API."""

from __future__ import annotations

import math

import pytest
import torch
from starlette.testclient import TestClient

from app.db.session import Database
from app.services.pairs import pairs
from app.services.scorings import maps
from app.settings import Settings
from engine.training.losses.dpo import SideLogprobs, dpo_loss
from engine.training.losses.rjs import rjs_loss
from tests.app import factories


@pytest.fixture
def world(database: Database, settings: Settings) -> tuple[int, int]:
    """The ids of a run with log-probabilities and of its first pair."""
    with database.session() as session:
        run = factories.make_scored_run(session, settings, 2, logprobs=True)
        return run.id, pairs.list_pairs(session, run.dataset_id or 0).items[0].pair.id


def test_every_density_is_what_training_computes_on_the_stored_numbers(
    client: TestClient, database: Database, world: tuple[int, int]
) -> None:
    run_id, pair_id = world
    answer = client.get(f"/api/v1/pairs/{pair_id}/preview?run={run_id}&gradients=true&sft_weight=0.25").json()
    assert answer["missing"] is None
    assert [one["density"] for one in answer["densities"]] == ["sample", "step", "token", "segment"]
    assert len({one["guarded"]["loss"] for one in answer["densities"]}) > 1
    with database.session() as session:
        stored = {side: maps.get_map(session, run_id, pair_id, side).map for side in ("chosen", "rejected")}
    for one in answer["densities"]:
        sides = []
        for side, known in stored.items():
            mask = torch.tensor(one["mask"][side])[None] > 0
            assert mask.sum().item() == one["kept"][side]
            tracks = [
                torch.tensor(track, dtype=torch.float64)[None]
                for track in (known.logprobs, known.reference_logprobs)
            ]
            sides.append(SideLogprobs(tracks[0].requires_grad_(), tracks[1], mask, torch.ones_like(mask)))
        for name, safeguards in (
            ("plain", {"rejected_clip": None, "sft_weight": 0.0, "dropped_weight": 0.0}),
            ("guarded", {"sft_weight": 0.25}),
        ):
            for side in sides:
                side.policy_logprobs.grad = None
            expected = dpo_loss(*sides, **safeguards)  # type: ignore[arg-type]
            expected.loss.backward()
            assert one[name]["loss"] == pytest.approx(expected.loss.item())
            for side, gradient in zip(sides, one[name]["gradients"].values(), strict=True):
                assert gradient == pytest.approx(side.policy_logprobs.grad[0].tolist(), abs=1e-12)
    whole = answer["densities"][0]
    assert whole["rjs"]["loss"] == pytest.approx(
        rjs_loss(sides[0].policy_logprobs, torch.ones_like(sides[0].mask)).item()
    )
    assert whole["kept"] == whole["tokens"] == {"chosen": 5.0, "rejected": 5.0}


def test_without_gradients_the_answer_is_a_small_table(client: TestClient, world: tuple[int, int]) -> None:
    run_id, pair_id = world
    one = client.get(f"/api/v1/pairs/{pair_id}/preview?run={run_id}").json()["densities"][0]
    assert one["mask"] is None
    assert one["plain"]["gradients"] is None
    assert one["plain"]["pull"] == pytest.approx(0.1 / (1 + math.exp(one["plain"]["margin"])))


def test_a_run_without_log_probabilities_says_so(
    client: TestClient, database: Database, settings: Settings
) -> None:
    with database.session() as session:
        run = factories.make_scored_run(session, settings, 1, sources=("rm_increment",))
        pair_id = pairs.list_pairs(session, run.dataset_id or 0).items[0].pair.id
    answer = client.get(f"/api/v1/pairs/{pair_id}/preview?run={run.id}").json()
    assert answer["densities"] == []
    assert "no log-probabilities" in answer["missing"]


def test_one_side_alone_has_a_likelihood_but_no_margin(
    client: TestClient, database: Database, settings: Settings
) -> None:
    with database.session() as session:
        rows = [factories.preference_pair(0, rejected=None)]
        run = factories.make_scored_run(session, settings, rows, logprobs=True)
        pair_id = pairs.list_pairs(session, run.dataset_id or 0).items[0].pair.id
    answer = client.get(f"/api/v1/pairs/{pair_id}/preview?run={run.id}").json()
    assert "chosen response only" in answer["missing"]
    assert all(one["guarded"] is None and one["rjs"]["loss"] > 0 for one in answer["densities"])


def test_what_is_not_there_is_not_previewed(client: TestClient, world: tuple[int, int]) -> None:
    run_id, pair_id = world
    assert client.get(f"/api/v1/pairs/{pair_id}/preview?run=999").status_code == 404
    assert client.get(f"/api/v1/pairs/999/preview?run={run_id}").status_code == 404
    assert client.get(f"/api/v1/pairs/{pair_id}/preview?run={run_id}&source=spans").status_code == 422
