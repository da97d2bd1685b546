"""From rewards to a mask: every option, the identities, and the corners."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from engine.errors import RequestError
from engine.masks import (
    answer,
    dropped_tokens,
    refused_candidates,
    segment_response,
    segment_run,
    warm_up,
)
from engine.rules import AnySegmenter, SegmentationRequest, SegmentationRule
from engine.segmentation.segmenter import SEGMENTERS
from engine.segmentation.statistics import RewardStatistics
from engine.types import Segmentation

ORACLES = json.loads((Path(__file__).parents[1] / "oracles.json").read_text())
NAN = math.nan


def summary(rewards: Any) -> RewardStatistics:
    statistics = RewardStatistics()
    statistics.add(np.asarray(rewards, dtype=np.float64))
    return statistics


def tracks(tokens: int) -> dict[str, Any]:
    """A text of one character a token, and entropies, so that every segmenter can be asked."""
    return {
        "text": ("ab. C\nd" * tokens)[:tokens],
        "offsets": np.array([(t, t + 1) for t in range(tokens)], dtype=np.int64).reshape(-1, 2),
        "entropies": np.arange(tokens) % 3.0,
    }


def cut(rewards: list[float], sign: int = 1, run: list[float] | None = None, **options: Any) -> Segmentation:
    eos = options.pop("ends_with_eos", True)
    if isinstance(options.get("segmenter"), str):
        options["segmenter"] = {"name": options["segmenter"]}
    rule = SegmentationRule.model_validate({"eos": "inherit", **options})
    statistics = summary(rewards if run is None else run)
    return segment_response(
        np.array(rewards), sign, rule, statistics, ends_with_eos=eos, **tracks(len(rewards))
    )


def ask(token_rewards: list[float | None], **options: Any) -> dict[str, Any]:
    return answer(SegmentationRequest(token_rewards=token_rewards, **{"eos": "inherit", **options}))


# ------------------------------------------------------------------------------------------- worked numbers


@pytest.mark.parametrize("delta", [0.2, 0.3, 0.45])
@pytest.mark.parametrize(
    ("name", "sign", "kept"),
    [("figure_positive", 1, "kept_if_positive"), ("figure_negative", -1, "kept_if_negative")],
)
def test_the_figure_is_answered(name: str, sign: int, kept: str, delta: float) -> None:
    figure = ORACLES[name]
    found = ask(figure["scores"], sign=sign, segmenter={"name": "hysteresis", "delta": delta})
    assert found["signal"] == figure["signal"]
    assert found["pivots"] == figure["pivots"]
    assert found["candidates"] == figure["zero_crossing_candidates"]
    assert [[segment["start"], segment["end"]] for segment in found["segments"]] == figure["segments"]
    expected = [any(a <= t < b for a, b in figure[kept]) for t in range(len(figure["scores"]))]
    assert found["mask"] == expected
    assert "weights" not in found


def test_the_worked_token_masks_agree() -> None:
    worked = ORACLES["dpo"]
    for side, sign in (("c", 1), ("r", -1)):
        found = ask(worked[f"implicit_{side}"], sign=sign, segmenter={"name": "token"})
        assert found["mask"] == [bool(kept) for kept in worked["agreement_mask_token_delta0"][side]]


def test_segment_rewards_are_means_of_the_scaled_rewards() -> None:
    found = ask([1.0, 2.0, -1.0, None, -3.0], baseline=0.5, scale=2.0)
    assert found["segments"] == [
        {"start": 0, "end": 2, "polarity": 1, "reward": 0.5},
        {"start": 2, "end": 5, "polarity": -1, "reward": -1.25},
    ]
    assert found["mask"] == [True, True, False, False, False]


def test_an_answer_is_plain_json_with_null_for_what_is_missing() -> None:
    found = ask([None, None], soft_tau=1.0)
    assert json.loads(json.dumps(found, allow_nan=False)) == {
        "signal": [0, 0],
        "candidates": [],
        "pivots": [],
        "segments": [{"start": 0, "end": 2, "polarity": 0, "reward": None}],
        "mask": [True, True],
        "weights": [1.0, 1.0],
    }
    json.dumps(ask([1e308, 1e308, -1e308], aggregate="sum", soft_tau=0.1), allow_nan=False)


# ------------------------------------------------------------------------------------------------- the scale


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        ("zero", 0.0),
        ("batch_mean", 2.0),
        ("median", 1.0),
        ("otsu", 3.5),
        ("sequence_mean", 0.5),
        (0.25, 0.25),
    ],
)
def test_baselines_are_taken_over_the_run_or_the_response(baseline: Any, expected: float) -> None:
    found = cut([0.0, 1.0, NAN], run=[0.0, 1.0, 1.0, 6.0], baseline=baseline)
    assert found.baseline == expected
    np.testing.assert_array_equal(found.scaled, np.array([-expected, 1 - expected, NAN], np.float32))


def test_scales_are_one_the_deviation_or_a_number() -> None:
    assert cut([4.0], run=[1.0, 3.0]).scale == 1.0
    assert cut([4.0], run=[1.0, 5.0], scale="std").scaled.tolist() == [2.0]
    assert cut([4.0], run=[1.0, 3.0], scale=8).scaled.tolist() == [0.5]


def test_a_deviation_of_zero_counts_as_one() -> None:
    assert cut([4.0, 4.0], scale="std").scaled.tolist() == [4.0, 4.0]
    assert cut([NAN], scale="std", baseline="otsu").scale == 1.0


def test_a_run_without_rewards_has_baseline_zero() -> None:
    for baseline in ("batch_mean", "median", "otsu", "sequence_mean"):
        assert cut([NAN, NAN], baseline=baseline).baseline == 0.0


def test_infinite_rewards_count_as_missing() -> None:
    assert cut([1.0, math.inf, -math.inf]).missing == 2
    assert cut([1.0, math.inf, -math.inf]).signal.tolist() == [1, 1, 1]


# ------------------------------------------------------------------------------------- polarity and agreement


def test_a_dispute_between_signal_and_reward_is_flagged() -> None:
    # The signal turns at 2 and never back, yet the segment's mean is positive.
    rewards = [1.0, 1.0, -0.4, 0.25, 0.25, 0.25]
    by_signal, by_reward = cut(rewards), cut(rewards, polarity="reward")
    assert [segment.disputed for segment in by_signal.segments] == [False, True]
    assert [segment.polarity for segment in by_signal.segments] == [1, -1]
    assert by_signal.mask.tolist() == [True, True, False, False, False, False]
    assert [segment.disputed for segment in by_reward.segments] == [False, True]
    assert by_reward.segments[1].polarity == 1
    assert by_reward.mask.all()
    assert by_reward.signal.tolist() == by_signal.signal.tolist()


def test_whole_always_agrees() -> None:
    for sign in (1, -1):
        for options in ({}, {"polarity": "reward"}, {"soft_tau": 0.1}, {"neutral": "drop"}):
            found = cut([-1.0, NAN, 0.5], sign, segmenter="whole", **options)
            assert found.mask.all()
            assert found.weights.tolist() == [1.0] * 3
            assert found.signal.tolist() == [sign] * 3
            assert found.counted
    assert cut([-1.0], 1, segmenter="whole").segments[0].disputed


def test_rules_without_a_signal_take_the_sign_of_the_segment_reward() -> None:
    found = cut([1.0, -3.0, 2.0, 2.0, 1.0, -1.0, NAN, NAN], segmenter={"name": "fixed", "length": 2})
    assert found.signal.tolist() == [-1, -1, 1, 1, 0, 0, 0, 0]
    assert [segment.reward for segment in found.segments[:3]] == [-1.0, 2.0, 0.0]
    assert math.isnan(found.segments[3].reward)
    assert found.mask.tolist() == [False, False] + [True] * 6
    assert found.pivots.tolist() == [2, 4, 6]


def test_neutral_segments_are_kept_or_dropped() -> None:
    assert cut([0.1, -0.1]).mask.all()
    assert cut([0.1, -0.1]).segments[0].polarity == 0
    dropped = cut([0.1, -0.1], neutral="drop")
    assert not dropped.mask.any()
    assert not dropped.counted


def test_the_eos_is_kept_or_inherits() -> None:
    rewards = [1.0, -1.0, -1.0]
    assert cut(rewards, eos="keep").mask.tolist() == [True, False, True]
    assert cut(rewards, eos="inherit").mask.tolist() == [True, False, False]
    assert cut(rewards, eos="keep", ends_with_eos=False).mask.tolist() == [True, False, False]
    assert not cut(rewards, eos="keep").segments[-1].kept


def test_nothing_kept_is_skipped_falls_back_or_is_zero() -> None:
    skipped, fell_back, zero = (
        cut([-1.0, -1.0], nothing_kept=option, eos="keep") for option in ("skip", "fallback_sample", "zero")
    )
    assert (skipped.mask.any(), skipped.counted, skipped.fell_back) == (False, False, False)
    assert (zero.mask.any(), zero.counted, zero.fell_back) == (False, True, False)
    assert (fell_back.mask.all(), fell_back.counted, fell_back.fell_back) == (True, True, True)
    assert fell_back.weights.tolist() == [1.0, 1.0]
    assert not fell_back.segments[0].kept


def test_what_is_kept_needs_no_fallback() -> None:
    for option in ("skip", "fallback_sample", "zero"):
        found = cut([1.0, -1.0], nothing_kept=option)
        assert (found.mask.tolist(), found.counted, found.fell_back) == ([True, False], True, False)


def test_a_margin_drops_only_what_disagrees_by_more_than_that_many_deviations() -> None:
    rewards, run = [4.0, -1.0, 4.0, -3.0], [1.0, 5.0]  # A deviation of 2.
    assert cut(rewards, run=run).mask.tolist() == [True, False, True, False]
    assert cut(rewards, run=run, margin=0.75).mask.tolist() == [True, True, True, False]
    assert cut(rewards, run=run, margin=1.5).mask.tolist() == [True, True, True, True]
    assert cut(rewards, run=run, margin=0.75, scale=10, segmenter="token").mask.tolist() == [
        True,
        True,
        True,
        False,
    ]


def test_a_margin_does_not_rescue_what_is_neutral() -> None:
    assert not cut([0.1], neutral="drop", margin=5).mask.any()


def test_soft_weights_are_sigmoids_of_the_agreement() -> None:
    found = cut([2.0, -1.0], -1, soft_tau=2.0)
    np.testing.assert_allclose(found.weights, [1 / (1 + math.e), 1 / (1 + math.exp(-0.5))], rtol=1e-6)
    assert found.mask.tolist() == [False, True]
    assert ask([2.0, -1.0], sign=-1, soft_tau=2.0)["weights"] == pytest.approx([0.26894, 0.62246], abs=1e-5)


def test_soft_weights_keep_the_eos_and_need_no_fallback() -> None:
    found = cut([-1.0, -1.0], soft_tau=1.0, eos="keep")
    np.testing.assert_allclose(found.weights, [1 / (1 + math.e), 1.0], rtol=1e-6)
    assert found.counted
    assert found.mask.tolist() == [False, True]


# ----------------------------------------------------------------------------------------------- identities

eighths = st.integers(-24, 24).map(lambda n: n / 8)
curves = st.lists(eighths | st.just(NAN), min_size=1, max_size=40)
signs = st.sampled_from([1, -1])
rules = st.fixed_dictionaries(
    {
        "segmenter": st.sampled_from(list(SEGMENTERS)).map(lambda name: {"name": name})
        | st.builds(
            lambda delta, min_len, smoothing: {
                "name": "hysteresis",
                "delta": delta / 8,
                "min_len": min_len,
                "smoothing": smoothing,
            },
            st.integers(0, 12),
            st.integers(1, 6),
            st.sampled_from(["none", "median", "ema"]),
        ),
        "baseline": st.sampled_from(["zero", "batch_mean", "median", "otsu", "sequence_mean", 0.5]),
        "scale": st.sampled_from(["none", "std", 2.0]),
        "aggregate": st.sampled_from(["mean", "sum", "last", "min", "max_abs"]),
        "polarity": st.sampled_from(["signal", "reward"]),
        "neutral": st.sampled_from(["keep", "drop"]),
        "eos": st.sampled_from(["keep", "inherit"]),
        "nothing_kept": st.sampled_from(["skip", "fallback_sample", "zero"]),
        "margin": st.sampled_from([0.0, 0.5]),
        "soft_tau": st.sampled_from([None, 0.5]),
    }
)


@settings(deadline=None, max_examples=300)
@given(curves, signs, rules)
def test_segments_partition_the_response_and_the_parts_fit(
    rewards: list[float], sign: int, rule: dict[str, Any]
) -> None:
    found = cut(rewards, sign, **rule)
    tokens = len(rewards)
    bounds = [segment.start for segment in found.segments] + [tokens]
    assert bounds[0] == 0
    assert [segment.end for segment in found.segments] == bounds[1:]
    assert all(segment.start < segment.end for segment in found.segments)
    assert found.pivots.tolist() == bounds[1:-1]
    assert int(found.mask.sum()) + int((~found.mask).sum()) == tokens
    assert found.missing == sum(math.isnan(reward) for reward in rewards)
    assert set(found.signal.tolist()) <= {-1, 0, 1}
    assert np.all((found.weights >= 0) & (found.weights <= 1))
    for segment in found.segments:
        assert len(set(found.signal[segment.start : segment.end].tolist())) == 1
    if rule["soft_tau"] is None:
        assert found.weights.tolist() == found.mask.astype(float).tolist()
    if not found.counted:
        assert rule["nothing_kept"] == "skip"
        assert not found.mask.any()
    if found.fell_back:
        assert rule["nothing_kept"] == "fallback_sample"
        assert found.mask.all()


@settings(deadline=None, max_examples=200)
@given(curves, signs, st.integers(0, 12), st.sampled_from(["mean", "sum", "last", "max_abs"]))
def test_negated_rewards_and_sign_give_the_same_mask(
    rewards: list[float], sign: int, delta: int, aggregate: str
) -> None:
    options: dict[str, Any] = {"aggregate": aggregate}
    options["segmenter"] = {"name": "hysteresis", "delta": delta / 8, "min_len": 2}
    for polarity in ("signal",) if aggregate == "max_abs" else ("signal", "reward"):
        there = cut(rewards, sign, polarity=polarity, **options)
        back = cut([-reward for reward in rewards], -sign, polarity=polarity, **options)
        assert there.mask.tolist() == back.mask.tolist()
        assert there.candidates.tolist() == back.candidates.tolist()


@settings(deadline=None)
@given(curves, signs, st.sampled_from([0.5, 2.0, 3.0]), st.integers(0, 12))
def test_scaled_rewards_and_delta_give_the_same_segments(
    rewards: list[float], sign: int, a: float, delta: int
) -> None:
    there = cut(rewards, sign, segmenter={"name": "hysteresis", "delta": delta / 8})
    scaled = [a * reward for reward in rewards]
    for found in (
        cut(scaled, sign, segmenter={"name": "hysteresis", "delta": a * delta / 8}),
        cut(scaled, sign, segmenter={"name": "hysteresis", "delta": delta / 8}, scale=a),
    ):
        assert found.pivots.tolist() == there.pivots.tolist()
        assert found.mask.tolist() == there.mask.tolist()


@settings(deadline=None)
@given(curves, signs, st.integers(-40, 40).map(lambda n: n / 8), st.sampled_from(list(SEGMENTERS)))
def test_a_constant_may_be_added_to_rewards_and_baseline(
    rewards: list[float], sign: int, k: float, segmenter: str
) -> None:
    there = cut(rewards, sign, segmenter=segmenter, baseline=0.25)
    shifted = cut([reward + k for reward in rewards], sign, segmenter=segmenter, baseline=0.25 + k)
    assert shifted.mask.tolist() == there.mask.tolist()
    assert shifted.segments == there.segments or any(math.isnan(s.reward) for s in there.segments)


@settings(deadline=None)
@given(
    st.lists(eighths, min_size=1, max_size=30), signs, st.sampled_from(list(SEGMENTERS)), st.integers(0, 8)
)
def test_soft_weights_tend_to_the_hard_mask_of_the_reward(
    rewards: list[float], sign: int, segmenter: str, margin: int
) -> None:
    # A margin of an odd number of thirds meets no segment reward exactly.
    options = {"segmenter": segmenter, "polarity": "reward", "margin": margin / 3 and (margin + 0.123) / 3}
    hard, soft = cut(rewards, sign, **options), cut(rewards, sign, soft_tau=1e-7, **options)
    assert soft.mask.tolist() == hard.mask.tolist()
    assert soft.counted == hard.counted
    np.testing.assert_allclose(soft.weights, hard.weights, atol=1e-6)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(st.lists(eighths | st.just(NAN), max_size=15), signs, st.booleans()), max_size=6),
    rules,
)
def test_a_run_is_cut_as_its_responses_alone(
    responses: list[tuple[list[float], int, bool]], options: dict[str, Any]
) -> None:
    rule = SegmentationRule.model_validate(options)
    rewards = np.array([r for curve, _, _ in responses for r in curve], dtype=np.float32)
    statistics = summary(rewards)
    own = [tracks(len(curve)) for curve, _, _ in responses]
    run = segment_run(
        rewards,
        np.cumsum([0, *(len(curve) for curve, _, _ in responses)]),
        np.array([sign for _, sign, _ in responses], dtype=np.int8),
        rule,
        statistics,
        texts=[track["text"] for track in own],
        offsets=np.concatenate([np.zeros((0, 2), np.int64), *(track["offsets"] for track in own)]),
        entropies=np.concatenate([np.zeros(0), *(track["entropies"] for track in own)]),
        ends_with_eos=np.array([eos for _, _, eos in responses], dtype=np.bool_),
    )
    assert len(run) == len(responses)
    for row, (curve, sign, eos) in enumerate(responses):
        alone = segment_response(
            np.array(curve, np.float32), sign, rule, statistics, ends_with_eos=eos, **own[row]
        )
        assert repr(run.response(row)) == repr(alone)


@settings(deadline=None)
@given(curves, signs, rules)
def test_the_answer_does_not_depend_on_the_precision_of_the_rewards(
    rewards: list[float], sign: int, options: dict[str, Any]
) -> None:
    rule = SegmentationRule.model_validate(options)
    found = [
        segment_response(np.array(rewards, dtype), sign, rule, summary(rewards), **tracks(len(rewards)))
        for dtype in (np.float32, np.float64)
    ]
    assert repr(found[0]) == repr(found[1])


# --------------------------------------------------------------------------------------------------- corners


@pytest.mark.parametrize("segmenter", SEGMENTERS)
@pytest.mark.parametrize("rewards", [[1.0], [-1.0], [NAN], [0.0], [NAN] * 5, [0.0] * 5])
def test_corners_go_through_every_segmenter(segmenter: str, rewards: list[float]) -> None:
    for scale in ("none", "std"):
        found = cut(rewards, segmenter=segmenter, scale=scale, baseline="otsu")
        assert found.segments[-1].end == len(rewards)


def test_an_empty_response_has_no_segments_and_is_skipped() -> None:
    found = cut([], eos="keep")
    assert (found.segments, found.counted, len(found.mask)) == ((), False, 0)


def test_a_long_response_is_cut() -> None:
    rewards = np.sin(np.arange(50_000) / 7)
    found = segment_response(rewards, 1, SegmentationRule(), summary(rewards))
    assert len(found.pivots) == pytest.approx(50_000 / (7 * math.pi), abs=2)


def test_integers_are_rewards_too() -> None:
    assert segment_response(np.array([1, -1]), 1, SegmentationRule(), summary([1, -1])).pivots.tolist() == [1]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"starts": np.array([0, 3])}, "ascend from 0 to the number of token rewards, 2"),
        ({"starts": np.array([0, 2, 1, 2])}, "must ascend"),
        ({"signs": np.array([1, 1])}, "2 signs for 1 responses"),
        ({"offsets": np.zeros((3, 2), int)}, "`offsets` has 3 entries for 2 token rewards"),
        ({"entropies": np.zeros(1)}, "`entropies` has 1 entries"),
        ({"texts": ["a", "b"]}, "2 texts for 1 responses"),
    ],
)
def test_lengths_that_contradict_each_other_are_refused(change: dict[str, Any], sentence: str) -> None:
    given = {"starts": np.array([0, 2]), "signs": np.array([1]), **change}
    with pytest.raises(RequestError, match=sentence):
        segment_run(np.zeros(2), rule=SegmentationRule(), statistics=summary([]), **given)


def test_every_segmenter_can_be_asked_by_name_alone() -> None:
    for name in SEGMENTERS:
        assert TypeAdapter(AnySegmenter).validate_python({"name": name}).name == name


def test_warming_up_leaves_nothing_to_compile() -> None:
    from engine.masks import _decide

    warm_up()
    compiled = len(_decide.dispatcher.signatures)  # type: ignore[attr-defined]
    ask([1.0, -1.0])
    cut([1.0, -1.0], soft_tau=0.5)
    assert len(_decide.dispatcher.signatures) == compiled  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------ what is drawn of it


def test_a_candidate_is_refused_where_it_stays_within_the_band() -> None:
    rule = SegmentationRule.model_validate({"segmenter": {"name": "hysteresis", "delta": 0.3}})
    found = cut([1.0, -0.25, -0.125, 0.5, -2.0], segmenter={"name": "hysteresis", "delta": 0.3})
    assert found.candidates.tolist() == [1, 3, 4]
    assert refused_candidates(found, rule) == {1: -0.25}
    assert refused_candidates(found, SegmentationRule.model_validate({"segmenter": {"name": "whole"}})) == {}


def test_dropped_tokens_are_those_of_segments_that_do_not_agree() -> None:
    found = cut([1.0, 1.0, -1.0, -1.0])
    assert dropped_tokens(found.segments).tolist() == [False, False, True, True]
    assert dropped_tokens(found.segments, end_kept=True).tolist() == [False, False, True, False]
    assert dropped_tokens([], end_kept=True).tolist() == []
