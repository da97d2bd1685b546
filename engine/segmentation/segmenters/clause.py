"""Segments between punctuation marks: what step-wise methods cut where a text has no lines of its own.

A clause ends behind a punctuation mark that is followed by space or by the end of the text, behind a mark of
Chinese and Japanese whatever follows, and behind a line break. Points and commas inside numbers end nothing.
"""

from __future__ import annotations

import re
from typing import Literal

from engine.segmentation.characters import cuts_at
from engine.segmentation.rows import Rows
from engine.segmentation.segmenter import SEGMENTERS, Cuts, Segmenter, SegmenterFields

# Marks, with the quotes and brackets that close behind them; the space after them belongs to the next clause.
ENDS = re.compile(r"""(?:[.,;:!?…]+["'”’»)\]]*(?=\s|$)|[。，；：！？、]+[」』”）]*|[\r\n]\s*)+""")  # noqa: RUF001


class Clause(SegmenterFields):
    """A segment ends with a punctuation mark or a line break: step-wise supervision of plain text."""

    name: Literal["clause"] = "clause"


def cuts(rows: Rows, fields: Clause) -> Cuts:
    """Cuts before the first token that starts behind the end of a clause."""
    return cuts_at(rows, clause_starts)


def clause_starts(text: str) -> list[int]:
    """The characters at which a clause starts, but for the first clause."""
    return [found.end() for found in ENDS.finditer(text)]


SEGMENTERS.register(Segmenter(Clause, "Clause (punctuation)", cuts, reads=("text", "offsets")))
