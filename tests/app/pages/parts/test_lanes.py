"""The lanes: what is offered, what colours say of numbers without a sign, what the legend's ends say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.pages.parts.highlight import Colouring, colouring_of
from app.pages.parts.lanes import Ends, choices, ends, lane_values, lanes_of, ramp
from app.pages.parts.looks import Look
from app.pages.parts.numbers import MINUS
from app.pages.parts.pair_view import drawing_of, drawn_values, pushes_of, rounded_list
from app.services.pairs import pairs, previews
from app.services.scorings import maps
from engine.types import RewardMap
from tests.app import factories


def stored(**lanes):
    return RewardMap(
        key="a",
        side="chosen",
        token_ids=np.arange(2, dtype=np.int32),
        offsets=np.array([(0, 1), (1, 2)], dtype=np.int32),
        eos=None,
        prompt_tokens=1,
        truncated_prompt_tokens=0,
        rewards={},
        **{name: np.array(values) for name, values in lanes.items()},
    )


def test_only_lanes_that_every_response_has_are_offered():
    whole = stored(logprobs=[-1.0, -2.0], reference_logprobs=[-1.5, -2.0], entropies=[0.1, 0.2], ranks=[0, 9])
    bare = stored(logprobs=[-1.0, -2.0])
    assert lanes_of([whole]) == {"reward", "logprob", "reference", "entropy", "rank", "ratio"}
    assert lanes_of([whole, bare]) == {"reward", "logprob"}
    assert "gradient" in lanes_of([whole, replace(whole, side="rejected")])


def test_a_lane_that_is_missing_says_what_it_would_need():
    entropy = next(choice for choice in choices({"reward"}, "reward") if choice.name == "entropy")
    assert not entropy.is_there
    assert entropy.hint == "The run did not store the policy's entropies."
    assert [choice.key for choice in choices({"reward"}, "reward")] == [1, 2, 3, 4, 5, 6, 7]


def test_a_missing_rank_has_no_colour_and_no_number():
    some = stored(ranks=np.array([3, -1], dtype=np.int32))
    assert Colouring(4.0, "logarithmic").levels(lane_values(some, "rank"))[1] is None
    assert rounded_list(some.ranks) == [3, None]


def test_the_log_ratio_is_policy_less_reference():
    both = stored(logprobs=[-1.0, -2.0], reference_logprobs=[-1.5, -2.0])
    assert lane_values(both, "ratio").tolist() == [0.5, 0.0]


def test_numbers_without_a_sign_take_classes_from_0_up():
    assert Colouring(4.0, "sequential").levels(np.array([0.0, -2.0, -9.0, np.nan])) == [0, 5, 10, None]
    assert list(ramp(Colouring(1.0, "sequential"), 10)) == list(range(11))
    assert list(ramp(Colouring(1.0), 10)) == list(range(-10, 11))


def test_ranks_go_by_the_order_of_their_size():
    assert Colouring(999.0, "logarithmic").levels(np.array([0, 9, 99, 999, 50_000])) == [0, 3, 7, 10, 10]


@pytest.mark.parametrize(
    ("lane", "scale", "low", "high"),
    [
        ("reward", "diverging", f"{MINUS}2.00", "+2.00"),
        ("logprob", "sequential", "0", f"{MINUS}2.00"),
        ("entropy", "sequential", "0", "2.00"),
        ("rank", "logarithmic", "0", "2"),
    ],
)
def test_the_ends_of_the_legend_are_the_clip(lane, scale, low, high):
    assert ends(Colouring(2.0, scale), lane) == Ends(low, high)


def test_numbers_that_are_infinite_do_not_set_the_scale():
    assert colouring_of([np.array([-np.inf, -1.0])], "sequential").clip == 1.0
    assert Colouring(1.0, "sequential").levels(np.array([-np.inf])) == [10]


def test_the_gradient_is_that_of_training_under_the_shown_mask(database, settings):
    with database.session() as session:
        run = factories.make_scored_run(session, settings, 1, logprobs=True)
        pair_id = pairs.list_pairs(session, run.dataset_id or 0).items[0].pair.id
        view = maps.pair_view(session, pair_id, run_id=run.id)
        found = previews.pair_preview(session, pair_id, run_id=run.id).densities[-1]
    pushes = pushes_of(view.sides)
    assert found.name == "segment"
    for side, gradient in found.guarded.gradients.items():
        assert pushes[side].tolist() == (-gradient).tolist()
    drawing = drawing_of(view.sides, "implicit", view.rule, Look(lane="gradient"))
    assert drawing.lane == "gradient"
    assert drawn_values(view.sides[0], drawing).tolist() == pushes["chosen"].tolist()
    alone = drawing_of(view.sides[:1], "implicit", view.rule, Look(lane="gradient"))
    assert (alone.lane, alone.pushes) == ("reward", {})
