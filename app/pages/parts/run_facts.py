"""A request or a result as lines that a person reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from app.pages.parts.numbers import count
from app.pages.parts.rule_controls import rule_query
from engine.rules import SegmentationRule

FIRST = ("policy", "reference", "reward_model", "sources", "beta", "pairs", "responses", "tokens", "seconds")
"""Fields that lines begin with, in this order."""
HIDDEN = (
    "dataset_id",
    "dataset_name",
    "run_id",
    "id",
    "fingerprint",
    "trust_remote_code",
    "content_hash",
    "lanes",
    "maps",
)
"""What the page shows elsewhere, or nobody reads."""


def facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A request or result as lines: models and sources first, what the page shows elsewhere left out."""
    shown = {
        name: value for name, value in values.items() if name not in HIDDEN and value not in (None, [], {})
    }
    names = sorted(shown, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    return [(name.replace("_", " "), written(shown[name])) for name in names]


def written(value: Any) -> str:
    """A value of a request or a result in words."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return count(value) if isinstance(value, int) else f"{value:g}"
    if isinstance(value, Mapping) and "rule" in value:
        return f"{value['name']} ({written(_rule(value['rule']))})"
    if isinstance(value, Mapping) and "name" in value:
        rest = {key: item for key, item in value.items() if key not in ("name", *HIDDEN) and item is not None}
        return f"{value['name']} ({written(rest)})" if rest else str(value["name"])
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key.replace('_', ' ')} {written(item)}" for key, item in value.items() if item is not None
        )
    if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
        return ", ".join(written(item) for item in value)
    if isinstance(value, list):
        return "\n".join(written(item) for item in value)
    return json.dumps(value)


def _rule(values: Mapping[str, Any]) -> dict[str, Any]:
    """A rule by what matters most, and what of the rest is not as usual."""
    rule = SegmentationRule.model_validate(values)
    main = {"segmenter": rule.segmenter.name, "baseline": rule.baseline, "scale": rule.scale}
    return {**main, **rule_query(rule, SegmentationRule())}
