"""Excerpts of texts for a table: the beginning on one line, or the place where a search hit, marked."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of an excerpt."""

    text: str
    is_hit: bool


def excerpt(text: str | None, characters: int, search: str | None = None) -> list[Piece]:
    """About `characters` of the text on one line, around the first hit of `search` if there is one."""
    text = text or ""
    hit = _pattern(search).search(text) if search else None
    start = 0 if hit is None or hit.start() < characters * 2 // 3 else hit.start() - characters // 3
    window = text[start : start + characters * 2 + 40]
    line = " ".join(window.split())
    is_cut = len(line) > characters or start + len(window) < len(text)
    line = ("…" if start else "") + line[:characters].rstrip() + ("…" if is_cut else "")
    return _pieces(line, search)


def _pieces(line: str, search: str | None) -> list[Piece]:
    if not search:
        return [Piece(line, False)] if line else []
    pieces, end = [], 0
    for hit in _pattern(search).finditer(line):
        pieces += [Piece(line[end : hit.start()], False), Piece(hit.group(), True)]
        end = hit.end()
    pieces.append(Piece(line[end:], False))
    return [piece for piece in pieces if piece.text]


def _pattern(search: str | None) -> re.Pattern[str]:
    """The search as it is found: in any case, whatever blanks stand between its words."""
    words = [re.escape(word) for word in (search or "").split()]
    return re.compile(r"\s+".join(words), re.IGNORECASE) if words else re.compile("(?!)")
