"""A segment a sentence, as `pysbd` (a port of the Pragmatic Segmenter's rules) sees sentences.

Line breaks end a sentence too. Spaces between two sentences belong to the later one, as they do for the
tokens of byte-level tokenizers, which begin with their space; line breaks belong to the earlier one.
"""

from __future__ import annotations

import itertools
import re
import warnings
from typing import Literal

from pydantic import Field

from engine.errors import RequestError
from engine.segmentation.characters import cuts_at
from engine.segmentation.rows import Rows
from engine.segmentation.segmenter import SEGMENTERS, Cuts, Segmenter, SegmenterFields
from engine.segmentation.segmenters.step import line_starts

with warnings.catch_warnings():
    # Its patterns are not written as raw strings, of which Python complains when it compiles them.
    warnings.simplefilter("ignore")
    import pysbd
    from pysbd.languages import LANGUAGE_CODES

# The rules take time that grows faster than the text: a longer line is read in pieces.
LONGEST_PIECE = 5_000
_PIECES = re.compile(rf".{{1,{LONGEST_PIECE}}}(?:\s|\Z)|.{{1,{LONGEST_PIECE}}}", re.DOTALL)


class Sentence(SegmenterFields):
    """A segment a sentence, as a sentence-splitting library sees them."""

    name: Literal["sentence"] = "sentence"
    language: str = Field("en", pattern="^[a-z]{2}$", title="Language")
    """Two letters, for the rules by which sentences end."""


def cuts(rows: Rows, fields: Sentence) -> Cuts:
    """Cuts before the first token that starts behind a sentence's end.

    Raises RequestError where the library has no rules for the language.
    """
    language = fields.language
    if language not in LANGUAGE_CODES:
        known = ", ".join(sorted(LANGUAGE_CODES))
        raise RequestError(f"No sentence rules for the language `{language}`: choose one of {known}.")
    splitter = pysbd.Segmenter(language=language, clean=False)
    return cuts_at(rows, lambda text: sentence_starts(text, splitter))


def sentence_starts(text: str, splitter: pysbd.Segmenter) -> list[int]:
    """The characters at which a sentence starts, but for the first one."""
    lines = [0, *line_starts(text), len(text)]
    found = lines[1:-1]
    for start, end in itertools.pairwise(lines):
        for piece in _PIECES.finditer(text, start, end):
            found += _ends_within(text, piece.start(), piece.end(), splitter)
    return found


def _ends_within(text: str, start: int, end: int, splitter: pysbd.Segmenter) -> list[int]:
    """Where the sentences of [start, end) end, but for the last one.

    The rules rewrite some characters; a sentence that is not in the text as they give it makes no boundary.
    """
    piece = text[start:end]
    if not piece.strip():
        return []
    ends, behind = [], start
    for sentence in splitter.processor(piece).process():
        at = text.find(sentence.strip(), behind, end)
        if sentence.strip() and at >= 0:
            behind = at + len(sentence.strip())
            ends.append(behind)
    return [at for at in ends if text[at:end].strip()]


SEGMENTERS.register(Segmenter(Sentence, "Sentence", cuts, reads=("text", "offsets")))
