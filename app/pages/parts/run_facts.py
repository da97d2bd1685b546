"""A request or a result as lines that a person reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from app.pages.parts.numbers import count
from app.pages.parts.rule_controls import rule_query
from app.services.scorings.rules import about_mask
from engine.fields import declared, part_of
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
    "masks",
    "made_rules",
    "surprisal",
    "maps",
)
"""What the page shows elsewhere, or nobody reads."""


def facts(values: Mapping[str, Any], body: type[BaseModel] | None = None) -> list[tuple[str, str]]:
    """A request or result as lines: models and sources first, what the page shows elsewhere left out. Fields
    are called as `body` declares them."""
    shown = {
        name: value for name, value in values.items() if name not in HIDDEN and value not in (None, [], {})
    }
    names = sorted(shown, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    return [(_title(name, body), written(shown[name], _part(name, body))) for name in names]


def _title(name: str, body: type[BaseModel] | None) -> str:
    return declared(body, name).title if body and name in body.model_fields else name.replace("_", " ")


def _part(name: str, body: type[BaseModel] | None) -> type[BaseModel] | None:
    return part_of(body.model_fields[name]) if body and name in body.model_fields else None


def written(value: Any, body: type[BaseModel] | None = None) -> str:
    """A value in words; of a part, that is of the class `body`, each field by its title."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return count(value) if isinstance(value, int) else f"{value:g}"
    if isinstance(value, Mapping) and "rule" in value:
        return _cut_by(value)
    if isinstance(value, Mapping) and "name" in value:
        rest = {key: item for key, item in value.items() if key not in ("name", *HIDDEN) and item is not None}
        return f"{value['name']} ({written(rest, body)})" if rest else str(value["name"])
    if isinstance(value, Mapping):
        return ", ".join(
            f"{_title(key, body)} {written(item, _part(key, body))}"
            for key, item in value.items()
            if item is not None
        )
    if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
        return ", ".join(written(item) for item in value)
    if isinstance(value, list):
        return "\n".join(written(item) for item in value)
    return json.dumps(value)


def _cut_by(value: Mapping[str, Any]) -> str:
    """A source with its rule; of a mask also why it is this rule, and what it keeps."""
    name = str(value.get("name") or value.get("source") or "")
    told = f"{name} ({written(_rule(value['rule']))})".strip()
    return f"{told}. {about_mask(value)}" if "reason" in value else told


def _rule(values: Mapping[str, Any]) -> dict[str, Any]:
    """A rule by what matters most, and what of the rest is not as usual."""
    rule = SegmentationRule.model_validate(values)
    main = {"segmenter": rule.segmenter.name, "baseline": rule.baseline, "scale": rule.scale}
    return {**main, **rule_query(rule, SegmentationRule())}
