import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.errors import DataError
from engine.sources import SOURCES, Evidence, Source, default_sources
from engine.sources.external import external_rewards
from engine.sources.implicit import implicit_rewards
from engine.sources.rm_increment import rm_increment_rewards
from engine.sources.rm_prefix import rm_prefix_rewards
from engine.sources.spans import span_rewards
from engine.types import Response, Span

ORACLES = json.loads((Path(__file__).parents[2] / "oracles.json").read_text())
NAN = float("nan")


def numbers(*values):
    return np.array(values, np.float32)


def test_the_implicit_reward_is_that_of_the_worked_example():
    oracle = ORACLES["dpo"]
    for side in ("c", "r"):
        rewards = implicit_rewards(
            numbers(*oracle[f"pol_{side}"]), numbers(*oracle[f"ref_{side}"]), oracle["beta"]
        )
        np.testing.assert_allclose(rewards, oracle[f"implicit_{side}"], atol=1e-7)
        whole = oracle["beta"] * (sum(oracle[f"pol_{side}"]) - sum(oracle[f"ref_{side}"]))
        assert float(rewards.sum()) == pytest.approx(whole, abs=1e-6)


def test_increments_telescope_to_the_last_value_minus_the_first():
    oracle = ORACLES["telescoping"]
    values = numbers(oracle["V0_prompt_only"], *oracle["V_prefix"])
    increments = rm_increment_rewards(values)
    np.testing.assert_allclose(increments, oracle["increments"], atol=1e-6)
    assert float(increments.sum()) == pytest.approx(oracle["V_T_minus_V_0"], abs=1e-6)


def test_the_last_prefix_reward_is_that_of_the_sequence():
    rewards = rm_prefix_rewards(numbers(0.4, 0.1, 0.9, 1.7))
    assert rewards.tolist() == numbers(0.1, 0.9, 1.7).tolist()


def test_missing_values_stay_missing():
    assert np.isnan(rm_increment_rewards(numbers(NAN, 1, 2))).tolist() == [True, False]
    assert np.isnan(implicit_rewards(numbers(NAN, 1), numbers(0, 1), 0.1)).tolist() == [True, False]


# ---------------------------------------------------------------------------------------------------- spans

OFFSETS = np.array([[0, 3], [3, 6], [6, 8], [8, 8]], np.int32)


@pytest.mark.parametrize(("spans", "expected"), [
    (None, [NAN, NAN, NAN, NAN]),
    ((), [1, 1, 1, 1]),
    ((Span(2, 4, "error"),), [-1, -1, 1, 1]),
    ((Span(3, 6, "right", 1.0),), [0, 1, 0, 0]),
    ((Span(3, 6, "error"), Span(6, 8, "right", 1.0)), [0, -1, 1, 0]),
    ((Span(3, 4, "neighbour", None),), [1, NAN, 1, 1]),
    ((Span(3, 6, "neighbour", None), Span(5, 7, "error")), [1, -1, -1, 1]),
    ((Span(3, 6, "right", 1.0), Span(3, 6, "error")), [0, -1, 0, 0]),
    ((Span(4, 4, "missing word"),), [1, -1, 1, 1]),
])  # fmt: skip
def test_spans_speak_for_the_tokens_they_overlap(spans, expected):
    np.testing.assert_array_equal(span_rewards(spans, OFFSETS), numbers(*expected))


# ------------------------------------------------------------------------------------------------- external


def external(rewards, stretches=None, eos=True):
    return external_rewards(
        rewards, stretches, OFFSETS, ends_with_eos=eos, name="The chosen response of row `a`"
    )


def test_one_a_token_comes_back_unchanged():
    np.testing.assert_array_equal(external((1.0, NAN, -2.0, 0.5)), numbers(1, NAN, -2, 0.5))


def test_the_reward_of_the_eos_may_be_left_out():
    np.testing.assert_array_equal(external((1.0, 2.0, 3.0)), numbers(1, 2, 3, NAN))


def test_a_wrong_length_names_the_row_and_both_lengths():
    with pytest.raises(DataError, match=r"row `a` comes with 2 token rewards, .* makes 4 tokens"):
        external((1.0, 2.0))
    with pytest.raises(DataError, match="3 token rewards"):
        external((1.0, 2.0, 3.0), eos=False)


def test_nothing_given_is_missing():
    assert np.isnan(external(None)).all()


def test_a_token_takes_the_reward_of_the_stretch_it_starts_in():
    np.testing.assert_array_equal(external((1.0, 2.0), ((0, 4), (4, 7))), numbers(1, 1, 2, NAN))
    np.testing.assert_array_equal(external((1.0, 2.0), ((0, 1), (6, 8))), numbers(1, NAN, 2, 2))


@pytest.mark.parametrize("stretches", [((0, 1),), ((0, 1), (9, 10)), ((4, 5), (0, 1)), ((3, 1), (4, 5))])
def test_offsets_that_make_no_sense_are_refused(stretches):
    with pytest.raises(DataError, match="row `a`"):
        external((1.0, 2.0), stretches)


# ------------------------------------------------------------------------------------------------- registry


def test_defaults_are_those_of_the_method():
    rules = {name: (one.default_rule.baseline, one.default_rule.scale) for name, one in SOURCES.items()}
    assert (
        rules.items()
        >= {
            "implicit": ("otsu", "std"),
            "rm_prefix": ("zero", "none"),
            "rm_increment": ("zero", "std"),
            "spans": ("zero", "none"),
            "external": ("zero", "none"),
        }.items()
    )


def test_sources_and_model_files_need_no_torch():
    code = (
        "import sys, engine.sources, engine.requests, engine.model_files; "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ----------------------------------------------------------------------------------- what is made of a source


def made(**fields):
    return Source(**{
        "name": "made", "title": "Made", "sentence": "Made here.", "kind": "increment", "needs": set(),
        "rewards": lambda evidence: numbers(1, NAN, 2, 4), **fields,
    })  # fmt: skip


def evidence(**seen):
    return Evidence(
        name="The chosen response of row `a`", response=Response("abcdefgh"),
        ids=np.arange(4, dtype=np.int32), offsets=OFFSETS, ends_with_eos=True, **seen,
    )  # fmt: skip


def test_the_reward_of_a_response_is_the_sum_of_what_is_there_or_the_last_level():
    assert made().total(numbers(1, NAN, 2, 4)) == 7
    assert np.isnan(made().total(numbers(NAN, NAN)))
    assert SOURCES["rm_prefix"].total(numbers(1, NAN, 2, 4)) == 4


def test_a_level_adds_what_it_changes_by_since_the_prompt():
    levels, values = numbers(1, 1.5, 4, 2), numbers(0.5, 1, 1.5, 4, 2)
    added = made(kind="level").increments(levels, evidence(values=values))
    assert added.tolist() == rm_increment_rewards(values).tolist() == [0.5, 0.5, 2.5, -2]
    assert made(kind="level").increments(levels, evidence()).tolist() == [1, 0.5, 2.5, -2]
    assert made().increments(levels, evidence(values=values)).tolist() == levels.tolist()


def test_a_source_gives_one_reward_a_token():
    assert made().token_rewards(evidence()).dtype == np.float32
    with pytest.raises(ValueError, match=r"`made` gives rewards of the shape \(2,\) for 4 tokens"):
        made(rewards=lambda evidence: [1, 2]).token_rewards(evidence())


def test_needs_say_what_a_source_costs_and_whether_it_can_reward_rollouts():
    implicit, spans = SOURCES["implicit"], SOURCES["spans"]
    assert implicit.cost == "One forward pass of the policy and one of the reference."
    assert spans.cost == "No forward pass."
    assert (implicit.rewards_rollouts, spans.rewards_rollouts) == (True, False)
    assert default_sources({"policy", "reference", "reward_model"}) == ["implicit", "rm_increment"]
