"""The rule in the address: what differs from the run's own, and nothing else."""

from __future__ import annotations

import pytest

from app.errors import Invalid
from app.pages.parts.rule_controls import rule_form, rule_from, rule_query, whole_rule_query
from engine.rules import SegmentationRule
from engine.segmentation.segmenter import SEGMENTERS, shared_fields
from engine.segmentation.segmenters.fixed import Fixed
from engine.segmentation.segmenters.hysteresis import Hysteresis

EVERYTHING_ELSE = {
    "segmenter": Fixed(length=7),
    "baseline": 0.25,
    "scale": "std",
    "aggregate": "sum",
    "polarity": "reward",
    "neutral": "drop",
    "eos": "inherit",
    "nothing_kept": "zero",
    "margin": 0.5,
    "soft_tau": 0.75,
}
"""A value of every field of a rule that is not its default."""
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
    shown = rule_form(rule, DEFAULT).control("baseline").options
    assert [entry.value for entry in shown if entry.selected] == ["0.25"]


@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_segmenter_survives_the_way_through_an_address(name):
    changed = rule_from({"segmenter": name, "eos": "inherit", "margin": "0.5"}, DEFAULT)
    again = rule_from({key: str(value) for key, value in rule_query(changed, DEFAULT).items()}, DEFAULT)
    assert again == changed


@pytest.mark.parametrize("default", [DEFAULT, DEFAULT.model_copy(update=EVERYTHING_ELSE)])
@pytest.mark.parametrize("field", SegmentationRule.model_fields)
def test_a_copied_link_says_every_field_whatever_the_runs_rule_becomes(
    field: str, default: SegmentationRule
) -> None:
    rule = SegmentationRule().model_copy(update={field: EVERYTHING_ELSE[field]})
    assert rule_from(whole_rule_query(rule), default) == rule
    assert rule_from(rule_query(rule, default), default) == rule


def test_a_number_keeps_all_of_its_digits_in_an_address():
    rule = SegmentationRule(segmenter=Hysteresis(delta=0.12345678901))
    assert rule_from(rule_query(rule, DEFAULT), DEFAULT).segmenter == rule.segmenter


def test_the_form_has_a_control_for_every_field_of_the_rule_and_of_every_segmenter():
    form = rule_form(DEFAULT, DEFAULT)
    there = {control.name for control in (*form.front, *form.more)}
    declared = set(SegmentationRule.model_fields) - {"segmenter"}
    for segmenter in SEGMENTERS.values():
        declared |= set(segmenter.fields.model_fields) - {"name"}
    assert there == declared


def test_fields_that_the_chosen_segmenter_lacks_are_put_away():
    form = rule_form(rule_from({"segmenter": "changepoint"}, DEFAULT), DEFAULT)
    put_away = {control.name for control in (*form.front, *form.more) if control.is_put_away}
    assert put_away == set(shared_fields()) - {"penalty", "min_len"}


@pytest.mark.parametrize(
    "values", [{"delta": "-1"}, {"segmenter": "nonsense"}, {"scale": "0"}, {"delta": "x"}]
)
def test_a_value_that_cannot_be_used_is_refused_by_name(values):
    with pytest.raises(Invalid, match="cannot be used"):
        rule_from(values, DEFAULT)
