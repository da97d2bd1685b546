"""The controls that cut a response: a rule read from the address, shown as a form, written back as a link.

Controls and links are made of the fields that the rule and the registered segmenters declare. The address
holds only what differs from the run's own rule, so that a link says what was changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.pages.parts.form_fields import NONE
from app.pages.parts.forms import validated
from app.pages.parts.rendering import Option
from engine.fields import DeclaredField, declared_fields
from engine.rules import SegmentationRule
from engine.segmentation.segmenter import SEGMENTERS, SegmenterFields, shared_fields

RULE_FIELDS = {one.path: one for one in declared_fields(SegmentationRule) if one.path != "segmenter"}
SEGMENTER_FIELDS = shared_fields()
FIELDS = {name: shared.declared for name, shared in SEGMENTER_FIELDS.items()} | RULE_FIELDS
FRONT = {"baseline", "scale"} | {name for name, shared in SEGMENTER_FIELDS.items() if shared.is_main}
"""What is not folded away."""


@dataclass(frozen=True, slots=True)
class Control:
    """A field of the rule, as it is shown."""

    name: str
    label: str
    hint: str
    value: str
    options: list[Option] = field(default_factory=list)
    """The entries of a select box; empty for what is typed."""
    is_number: bool = False
    low: str = ""
    step: str = "1"
    slider_to: float = 0
    """Where its slider ends; 0 without a slider."""
    pattern: str = ""
    owners: str = ""
    """The segmenters that have it, with a space between; '' for a field of every rule."""
    is_put_away: bool = False
    """Whether the chosen segmenter lacks it."""


@dataclass(frozen=True, slots=True)
class RuleForm:
    """The state of the controls. Fields of other segmenters than the chosen one show their defaults."""

    segmenters: list[Option]
    front: list[Control]
    more: list[Control]
    more_is_open: bool
    """Whether a control of `more` was changed."""

    def control(self, name: str) -> Control:
        """The control of a field."""
        return next(control for control in (*self.front, *self.more) if control.name == name)


def rule_from(values: Mapping[str, str], default: SegmentationRule) -> SegmentationRule:
    """The run's own rule with what the address changes. Raises Invalid with the field that is wrong."""
    rule = default.model_dump()
    for name in RULE_FIELDS.keys() & values.keys():
        rule[name] = _read(RULE_FIELDS[name], values[name])
    name = values.get("segmenter", default.segmenter.name)
    segmenter = dict(rule["segmenter"]) if name == default.segmenter.name else {"name": name}
    for own in SEGMENTER_FIELDS.keys() & values.keys():
        if name in SEGMENTER_FIELDS[own].segmenters:
            segmenter[own] = _read(FIELDS[own], values[own])
    rule["segmenter"] = segmenter
    return validated(SegmentationRule, rule)


def rule_query(rule: SegmentationRule, default: SegmentationRule) -> dict[str, str]:
    """What an address must say so that `rule_from` gives `rule`."""
    is_same = rule.segmenter.name == default.segmenter.name
    usual = _written(default)
    if not is_same:
        usual |= {"segmenter": default.segmenter.name, **_written_segmenter(rule.segmenter.kind.fields())}
    return {name: value for name, value in _written(rule).items() if usual.get(name) != value}


def whole_rule_query(rule: SegmentationRule) -> dict[str, str]:
    """What an address must say so that `rule_from` gives `rule` whatever the run's own rule has become."""
    return _written(rule)


def rule_form(rule: SegmentationRule, default: SegmentationRule) -> RuleForm:
    """The controls, set to `rule`."""
    written = {name: _text(one.info.default) for name, one in FIELDS.items()} | _written(rule)
    controls = [_control(name, written[name], rule.segmenter.name) for name in FIELDS]
    more = [control for control in controls if control.name not in FRONT]
    return RuleForm(
        segmenters=options({name: one.title for name, one in SEGMENTERS.items()}, rule.segmenter.name),
        front=[control for control in controls if control.name in FRONT],
        more=more,
        more_is_open=bool(rule_query(rule, default).keys() & {control.name for control in more}),
    )


def options(labels: Mapping[str, str], chosen: object) -> list[Option]:
    """The entries of a select box; a chosen value that is not among them (a number) is added."""
    entries = [Option(value, label, value == chosen) for value, label in labels.items()]
    if chosen not in labels:
        entries.append(Option(_text(chosen), _text(chosen), selected=True))
    return entries


def _control(name: str, value: str, segmenter: str) -> Control:
    one = FIELDS[name]
    owners = SEGMENTER_FIELDS[name].segmenters if name in SEGMENTER_FIELDS else []
    limits = one.info.metadata
    low = next((limit.ge for limit in limits if hasattr(limit, "ge")), None)
    return Control(
        name=name,
        label=f"{one.title}, {one.unit}" if one.unit else one.title,
        hint=one.sentence.partition(". ")[0].rstrip("."),
        value=value,
        options=options(one.words, value) if one.words else [],
        is_number=one.type in (int, float) and not one.is_nullable,
        low=f"{low if low is not None else one.step:g}",
        step=f"{one.step:g}" if one.step else "1" if one.type is int else "any",
        slider_to=one.slider_to,
        pattern=next((limit.pattern for limit in limits if getattr(limit, "pattern", None)), ""),
        owners=" ".join(owners),
        is_put_away=bool(owners) and segmenter not in owners,
    )


def _written(rule: SegmentationRule) -> dict[str, str]:
    """The whole rule, as an address has it."""
    fields = {name: _text(getattr(rule, name)) for name in RULE_FIELDS}
    return {**fields, "segmenter": rule.segmenter.name, **_written_segmenter(rule.segmenter)}


def _written_segmenter(fields: SegmenterFields) -> dict[str, str]:
    return {name: _text(value) for name, value in fields.model_dump(exclude={"name"}).items()}


def _read(one: DeclaredField, value: str) -> str | None:
    """What was typed; what it is a number of, the rule finds."""
    return None if one.is_nullable and value.lower() == NONE else value


def _text(value: object) -> str:
    """A value as an address has it: a number in its shortest form that gives it back."""
    if value is None:
        return NONE
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)
