"""From boundaries between characters to cuts between tokens.

A token belongs to the unit that contains its start character; tokens of one code point share their offsets
and so stay together; the EOS, which starts behind the text, takes the last unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Bool

from engine.segmentation.rows import Rows


def cuts_at(rows: Rows, boundaries: Callable[[str], Iterable[int]]) -> Bool[np.ndarray, " tokens"]:
    """Cuts where a token is in another unit than the one before it.

    `boundaries(text)` gives the characters at which a unit starts, in any order.
    """
    assert rows.texts is not None, "a segmenter that reads texts asks for them"
    assert rows.offsets is not None, "and for offsets"
    found = rows.row_cuts()
    for row, text in enumerate(rows.texts):
        start, end = rows.starts[row], rows.starts[row + 1]
        unit_starts = np.array(sorted(at for at in boundaries(text) if 0 < at < len(text)), dtype=np.int64)
        # Byte fallback may write offsets that step back; a unit, once left, is not entered again.
        at = np.maximum.accumulate(np.asarray(rows.offsets[start:end, 0], dtype=np.int64))
        units = np.searchsorted(unit_starts, at, side="right")
        found[start + 1 : end] |= units[1:] != units[:-1]
    return found
