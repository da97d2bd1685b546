import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.errors import DataError
from engine.sources import SOURCES
from engine.sources.external import external_rewards
from engine.sources.implicit import implicit_rewards
from engine.sources.rm_increment import rm_increment_rewards
from engine.sources.rm_prefix import rm_prefix_rewards
from engine.sources.spans import span_rewards
from engine.types import Span

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
    rules = {name: (info.default_rule.baseline, info.default_rule.scale) for name, info in SOURCES.items()}
    assert rules == {
        "implicit": ("otsu", "std"),
        "rm_prefix": ("zero", "none"),
        "rm_increment": ("zero", "std"),
        "spans": ("zero", "none"),
        "external": ("zero", "none"),
    }


def test_sources_and_model_files_need_no_torch():
    code = (
        "import sys, engine.sources, engine.sources.external, "
        "engine.sources.spans, engine.model_files; "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
