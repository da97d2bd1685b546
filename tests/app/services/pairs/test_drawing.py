"""What a pair is drawn from: the tracks that a run stored, and the push of a training under the mask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from app.services.pairs import pairs, previews
from app.services.pairs.drawing import drawing_of, pushes_of, track_values, tracks_of
from app.services.scorings import maps
from engine.colouring import Colouring
from engine.rounding import rounded_list
from engine.types import RewardMap
from tests.app import factories


def stored(**tracks):
    return RewardMap(
        key="a",
        side="chosen",
        token_ids=np.arange(2, dtype=np.int32),
        offsets=np.array([(0, 1), (1, 2)], dtype=np.int32),
        eos=None,
        prompt_tokens=1,
        truncated_prompt_tokens=0,
        rewards={},
        **{name: np.array(values) for name, values in tracks.items()},
    )


def test_only_tracks_that_every_response_has_are_offered():
    whole = stored(logprobs=[-1.0, -2.0], reference_logprobs=[-1.5, -2.0], entropies=[0.1, 0.2], ranks=[0, 9])
    bare = stored(logprobs=[-1.0, -2.0])
    assert tracks_of([whole]) == {"reward", "logprob", "reference", "entropy", "rank", "ratio"}
    assert tracks_of([whole, bare]) == {"reward", "logprob"}
    assert "gradient" in tracks_of([whole, replace(whole, side="rejected")])


def test_a_missing_rank_has_no_colour_and_no_number():
    some = stored(ranks=np.array([3, -1], dtype=np.int32))
    assert Colouring(4.0, "logarithmic").levels(track_values(some, "rank"))[1] is None
    assert rounded_list(some.ranks) == [3, None]


def test_the_log_ratio_is_policy_less_reference():
    both = stored(logprobs=[-1.0, -2.0], reference_logprobs=[-1.5, -2.0])
    assert track_values(both, "ratio").tolist() == [0.5, 0.0]


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
    drawing = drawing_of(view.sides, "implicit", view.rule, track="gradient")
    assert drawing.track == "gradient"
    assert drawing.sides["chosen"].values.tolist() == pushes["chosen"].tolist()
    alone = drawing_of(view.sides[:1], "implicit", view.rule, track="gradient")
    assert (alone.track, alone.sides["chosen"].pushes) == ("reward", None)
