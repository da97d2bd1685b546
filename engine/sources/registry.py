"""What the sources of token rewards are: kind, needs, and the rule by which their rewards are cut."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from engine.rules import SegmentationRule
from engine.types import SourceName

Kind = Literal["increment", "level", "label"]
Need = Literal["policy", "reference", "reward_model", "spans", "external"]


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """All that is known of a source before it is asked."""

    name: SourceName
    kind: Kind
    """`increment`: rewards add up to the whole; `level`: each values the prefix; `label`: each judges."""
    needs: frozenset[Need]
    """Models of the request, or columns of the data."""
    default_rule: SegmentationRule
    """Labels and levels are taken as they are, increments in standard deviations of the run [ours]."""
    label: str
    """What a person reads in a list."""
    description: str
    identity: str
    """What the rewards add up to, tested."""


_AS_THEY_ARE = SegmentationRule(baseline="zero", scale="none")

SOURCES: Mapping[str, SourceInfo] = {
    info.name: info
    for info in (
        SourceInfo(
            name="implicit",
            kind="increment",
            needs=frozenset({"policy", "reference"}),
            default_rule=SegmentationRule(baseline="otsu", scale="std"),
            label="Implicit reward",
            description="How much likelier the policy holds a token than the reference does, times beta.",
            identity="The rewards sum to the implicit reward of the sequence.",
        ),
        SourceInfo(
            name="rm_prefix",
            kind="level",
            needs=frozenset({"reward_model"}),
            default_rule=_AS_THEY_ARE,
            label="Reward model: value",
            description="The scalar head of the reward model, read after every token.",
            identity="The last reward is the reward of the sequence.",
        ),
        SourceInfo(
            name="rm_increment",
            kind="increment",
            needs=frozenset({"reward_model"}),
            default_rule=SegmentationRule(baseline="zero", scale="std"),
            label="Reward model: change",
            description="What a token adds to the value that the reward model gives the prefix.",
            identity="The rewards sum to the last value minus the value of the prompt alone.",
        ),
        SourceInfo(
            name="spans",
            kind="label",
            needs=frozenset({"spans"}),
            default_rule=_AS_THEY_ARE,
            label="Labelled spans",
            description="+1 and -1 where people or programs labelled stretches of the response.",
            identity="A span mapped to tokens covers the span.",
        ),
        SourceInfo(
            name="external",
            kind="label",
            needs=frozenset({"external"}),
            default_rule=_AS_THEY_ARE,
            label="From the data",
            description="Token rewards that came with the rows, one a token or one a character span.",
            identity="What was given comes back unchanged.",
        ),
    )
}


def default_sources(has: Collection[str]) -> list[SourceName]:
    """The sources that are shown when nobody names any: all that `has` serves, in the order of SOURCES.

    Of the two readings of a reward model only the increments: they say what a token adds.
    """
    return [info.name for info in SOURCES.values() if info.needs <= set(has) and info.name != "rm_prefix"]
