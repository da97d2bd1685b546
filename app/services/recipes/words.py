"""What people call the rows of a recipe's table, and its steps."""

from __future__ import annotations

import re

ROWS = {"base": "base, untrained", "union": "sample + scorer data"}
"""Rows that are no granularity; the others bear its name."""


def row_label(density: str) -> str:
    """What the row of a granularity, of the base or of the fair rival is called."""
    return ROWS.get(density, density)


def step_label(step: str) -> str:
    """What a step such as `evaluate rjs union, seed 1` is called."""
    return re.sub(r"\bunion\b", ROWS["union"], step)
