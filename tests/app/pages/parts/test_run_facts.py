"""A request or a result as lines that a person reads."""

from __future__ import annotations

from app.pages.parts.run_facts import facts
from engine.rules import SegmentationRule

RULE = SegmentationRule(baseline="median", scale="mad").model_dump(mode="json")


def test_a_mask_says_its_source_its_rule_why_and_what_it_keeps() -> None:
    mask = {"source": "implicit", "rule": RULE, "reason": "stated by the request"}
    kept = {"kept_chosen": 0.5, "kept_rejected": 0.25, "tokens_a_pivot": 14.0}

    ((name, told),) = facts({"mask": mask | kept})

    assert name == "mask"
    assert told.startswith("implicit (segmenter hysteresis, baseline median, scale mad")
    assert "The rule is stated by the request." in told
    assert "It keeps 50% of the chosen and 25% of the rejected tokens; 1 pivot in 14 tokens." in told


def test_a_source_of_a_scoring_is_its_name_and_rule() -> None:
    ((_, told),) = facts({"sources": [{"name": "implicit", "rule": RULE}]})

    assert told == "implicit (segmenter hysteresis, baseline median, scale mad)"
