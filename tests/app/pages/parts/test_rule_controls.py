"""The rule in the address: what differs from the run's own, and nothing else."""

from __future__ import annotations

import pytest

from app.errors import Invalid
from app.pages.parts.rule_controls import SEGMENTERS, rule_form, rule_from, rule_query
from engine.rules import SegmentationRule
from engine.segmentation.segmenters.fixed import Fixed
from engine.segmentation.segmenters.hysteresis import Hysteresis

DEFAULT = SegmentationRule(segmenter=Hysteresis(delta=0.3), baseline="otsu", scale="std")


def test_an_address_that_changes_nothing_gives_the_runs_own_rule():
    assert rule_from({}, DEFAULT) == DEFAULT
    assert rule_query(DEFAULT, DEFAULT) == {}


def test_a_threshold_in_the_address_changes_only_the_threshold():
    rule = rule_from({"delta": "0.5", "length": "4"}, DEFAULT)
    assert rule == DEFAULT.model_copy(update={"segmenter": Hysteresis(delta=0.5)})
    assert rule_query(rule, DEFAULT) == {"delta": "0.5"}


def test_another_segmenter_comes_with_its_own_defaults():
    rule = rule_from({"segmenter": "fixed", "delta": "0.5"}, DEFAULT)
    assert rule.segmenter == Fixed()


def test_a_number_as_baseline_is_kept_and_shown():
    rule = rule_from({"baseline": "0.25"}, DEFAULT)
    assert rule.baseline == 0.25
    assert [entry.value for entry in rule_form(rule, DEFAULT).baselines if entry.selected] == ["0.25"]


@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_segmenter_survives_the_way_through_an_address(name):
    changed = rule_from({"segmenter": name, "eos": "inherit", "margin": "0.5"}, DEFAULT)
    again = rule_from({key: str(value) for key, value in rule_query(changed, DEFAULT).items()}, DEFAULT)
    assert again == changed


@pytest.mark.parametrize(
    "values", [{"delta": "-1"}, {"segmenter": "nonsense"}, {"scale": "0"}, {"delta": "x"}]
)
def test_a_value_that_cannot_be_used_is_refused_by_name(values):
    with pytest.raises(Invalid, match="cannot be used"):
        rule_from(values, DEFAULT)
