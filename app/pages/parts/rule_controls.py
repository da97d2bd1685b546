"""The controls that cut a response: a rule read from the address, shown as a form, written back as a link.

The address holds only what differs from the run's own rule, so that a link says what was changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from app.pages.parts.forms import validated
from app.pages.parts.rendering import Option
from engine.rules import SegmentationRule
from engine.segmentation.segmenters.changepoint import Changepoint
from engine.segmentation.segmenters.clause import Clause
from engine.segmentation.segmenters.entropy import Entropy
from engine.segmentation.segmenters.fixed import Fixed
from engine.segmentation.segmenters.hysteresis import Hysteresis
from engine.segmentation.segmenters.sentence import Sentence
from engine.segmentation.segmenters.step import Step
from engine.segmentation.segmenters.token import Token
from engine.segmentation.segmenters.whole import Whole
from engine.segmentation.segments import Aggregate

SEGMENTERS: Mapping[str, tuple[type[Any], str]] = {
    "hysteresis": (Hysteresis, "Hysteresis"),
    "changepoint": (Changepoint, "Change point"),
    "entropy": (Entropy, "Entropy"),
    "sentence": (Sentence, "Sentence"),
    "step": (Step, "Step (line break)"),
    "clause": (Clause, "Clause (punctuation)"),
    "fixed": (Fixed, "Fixed length"),
    "token": (Token, "Token"),
    "whole": (Whole, "Whole response"),
}
BASELINES = {
    "zero": "zero",
    "batch_mean": "run mean",
    "median": "run median",
    "otsu": "run Otsu threshold",
    "sequence_mean": "response mean",
}
SCALES = {"none": "none", "std": "run deviation"}
KEEP_OR_DROP = {"keep": "keep", "drop": "drop"}
EOS = {"keep": "always counts", "inherit": "as its segment"}
POLARITIES = {"signal": "signal", "reward": "segment reward"}
AGGREGATES = {name: name.replace("_", " ") for name in get_args(Aggregate)}
SMOOTHINGS = {"none": "none", "median": "median of 5", "ema": "moving average"}
RULE_FIELDS = ("baseline", "scale", "aggregate", "polarity", "neutral", "eos", "margin")
LABELS = {
    "segmenter": "Segmenter",
    "delta": "Threshold δ",
    "length": "Tokens a segment",
    "threshold": "Entropy above",
    "penalty": "Penalty",
    "language": "Language",
    "baseline": "Baseline",
    "scale": "Scale",
    "neutral": "Neutral segments",
    "eos": "End of sequence",
    "aggregate": "Segment reward",
    "polarity": "Polarity from",
    "margin": "Margin",
    "min_len": "Shortest segment",
    "smoothing": "Smoothing",
}
"""What the controls are called."""
SEGMENTER_FIELDS = ("delta", "min_len", "smoothing", "length", "threshold", "penalty", "language")


@dataclass(frozen=True, slots=True)
class RuleForm:
    """The state of the controls. Numbers of other segmenters than the chosen one show their defaults."""

    segmenters: list[Option]
    baselines: list[Option]
    scales: list[Option]
    aggregates: list[Option]
    polarities: list[Option]
    neutrals: list[Option]
    eos: list[Option]
    smoothings: list[Option]
    delta: float
    min_len: int
    length: int
    threshold: float
    penalty: float
    language: str
    margin: float
    more_is_open: bool
    """Whether a control of the second row was changed."""


def rule_from(values: Mapping[str, str], default: SegmentationRule) -> SegmentationRule:
    """The run's own rule with what the address changes. Raises Invalid with the field that is wrong."""
    rule = default.model_dump()
    for field in RULE_FIELDS:
        if field in values:
            rule[field] = _number_or_word(values[field])
    name = values.get("segmenter", default.segmenter.name)
    segmenter = dict(rule["segmenter"]) if name == default.segmenter.name else {"name": name}
    known = SEGMENTERS[name][0].model_fields if name in SEGMENTERS else {}
    segmenter.update(
        {field: values[field] for field in SEGMENTER_FIELDS if field in values and field in known}
    )
    rule["segmenter"] = segmenter
    return validated(SegmentationRule, rule, labels=LABELS)


def rule_query(rule: SegmentationRule, default: SegmentationRule) -> dict[str, Any]:
    """What an address must say so that `rule_from` gives `rule`."""
    query: dict[str, Any] = {}
    for field in RULE_FIELDS:
        if getattr(rule, field) != getattr(default, field):
            query[field] = _text(getattr(rule, field))
    same = rule.segmenter.name == default.segmenter.name
    if not same:
        query["segmenter"] = rule.segmenter.name
    usual = default.segmenter if same else SEGMENTERS[rule.segmenter.name][0]()
    for field in SEGMENTER_FIELDS:
        value = getattr(rule.segmenter, field, None)
        if value is not None and value != getattr(usual, field):
            query[field] = _text(value)
    return query


def whole_rule_query(rule: SegmentationRule) -> dict[str, Any]:
    """What an address must say so that `rule_from` gives `rule` whatever the run's own rule has become."""
    fields = {field: getattr(rule, field) for field in RULE_FIELDS} | {"segmenter": rule.segmenter.name}
    segmenter = {field: getattr(rule.segmenter, field, None) for field in SEGMENTER_FIELDS}
    return fields | {field: value for field, value in segmenter.items() if value is not None}


def rule_form(rule: SegmentationRule, default: SegmentationRule) -> RuleForm:
    """The controls, set to `rule`."""
    segmenter = rule.segmenter

    def of(kind: type[Any], field: str) -> Any:
        return getattr(segmenter if isinstance(segmenter, kind) else kind(), field)

    changed = rule_query(rule, default)
    min_len = getattr(segmenter, "min_len", 1)
    return RuleForm(
        segmenters=options({name: label for name, (_, label) in SEGMENTERS.items()}, segmenter.name),
        baselines=options(BASELINES, rule.baseline),
        scales=options(SCALES, rule.scale),
        aggregates=options(AGGREGATES, rule.aggregate),
        polarities=options(POLARITIES, rule.polarity),
        neutrals=options(KEEP_OR_DROP, rule.neutral),
        eos=options(EOS, rule.eos),
        smoothings=options(SMOOTHINGS, of(Hysteresis, "smoothing")),
        delta=of(Hysteresis, "delta"),
        min_len=min_len,
        length=of(Fixed, "length"),
        threshold=of(Entropy, "threshold"),
        penalty=of(Changepoint, "penalty"),
        language=of(Sentence, "language"),
        margin=rule.margin,
        more_is_open=bool(
            changed.keys() & {"aggregate", "polarity", "neutral", "eos", "margin", "smoothing", "min_len"}
        ),
    )


def options(labels: Mapping[str, str], chosen: object) -> list[Option]:
    """The entries of a select box; a chosen value that is not among them (a number) is added."""
    entries = [Option(value, label, value == chosen) for value, label in labels.items()]
    if chosen not in labels:
        entries.append(Option(_text(chosen), _text(chosen), selected=True))
    return entries


def _number_or_word(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
