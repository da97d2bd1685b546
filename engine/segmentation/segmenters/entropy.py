"""A token ends a segment when its distribution was uncertain: H > threshold nats (arXiv 2501.02790)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.fields import shown
from engine.segmentation.rows import Rows
from engine.segmentation.segmenter import SEGMENTERS, Cuts, Segmenter, SegmenterFields


class Entropy(SegmenterFields):
    """A segment ends with a token whose distribution was uncertain (arXiv 2501.02790)."""

    name: Literal["entropy"] = "entropy"
    threshold: float = Field(
        1.75, ge=0, title="Entropy above", json_schema_extra=shown(unit="nats", step=0.05)
    )
    """A token whose entropy is above this ends a segment."""


def cuts(rows: Rows, fields: Entropy) -> Cuts:
    """Cuts after every token with entropy strictly above the threshold; a missing entropy cuts nothing."""
    assert rows.entropies is not None, "read, and so asked for"
    found = rows.row_cuts()
    found[1:] |= rows.entropies[:-1] > fields.threshold
    return found


SEGMENTERS.register(Segmenter(Entropy, "Entropy", cuts, reads=("entropies",)))
