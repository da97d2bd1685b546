"""A response as coloured text: token rewards, pivots, segments and labelled spans in running text.

Builds one string by `str.join`, because a template that loops over tokens is twenty times slower. Colours are
classes (`b-10` ... `b10`), never inline styles, so that a strict content security policy holds. One `<i>` is
what a reader sees as one piece: tokens that split a character, or carry the marks of the one before, are
joined, and `data-n` says how many tokens the piece stands for. Knows no request and no data base.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from markupsafe import Markup

from rewardscope.app.pages.numbers import signed
from rewardscope.engine.types import Segment, Span

LEVELS = 10
"""Classes of colour on each side of zero."""
CLIP_QUANTILE = 0.99
"""Rewards beyond this quantile of |reward| of the pair take the strongest colour."""
GUTTER_CHARACTERS = 44
"""A gutter entry speaks for the segments that begin within about one line of text."""
GUTTER_SEGMENTS = 2
"""An entry of the gutter that stands for more segments than this gives their range instead."""
BLOCK_CHARACTERS = 320
"""A block of text ends with the first line break after this many code points ..."""
BLOCK_TOKENS = 600
"""... or, where no line ever ends, at a white space after this many tokens: the browser skips what is off
screen block by block."""

_NEEDS_CARE = re.compile(
    "[&<>\"'\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufeff]"
)
_JOINS_BACKWARDS = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670-\uffff]|[\U00010000-\U0010ffff]"
)
_ZERO_WIDTH_JOINER = "\u200d"


@dataclass(frozen=True, slots=True)
class Colouring:
    """The scale that both sides of a pair share: values at `clip` or beyond take the strongest colour."""

    clip: float

    def levels(self, values: np.ndarray) -> list[int | None]:
        """The class of each value, -10 to 10; None where the value is missing."""
        if self.clip <= 0:
            return [None if value != value else 0 for value in values.tolist()]
        missing = np.isnan(values)
        scaled = np.where(missing, 0.0, values / self.clip * LEVELS)
        levels: list[int | None] = np.rint(np.clip(scaled, -LEVELS, LEVELS)).astype(int).tolist()
        for position in np.flatnonzero(missing).tolist():
            levels[position] = None
        return levels


def colouring_of(values: Iterable[np.ndarray]) -> Colouring:
    """The scale of a pair: the 99th percentile of |value| over all its responses, missing values left out."""
    together = np.abs(
        np.concatenate([np.asarray(lane, dtype=np.float64) for lane in values] or [np.zeros(0)])
    )
    together = together[~np.isnan(together)]
    return Colouring(float(np.quantile(together, CLIP_QUANTILE)) if together.size else 0.0)


@dataclass(frozen=True, slots=True)
class MarkedResponse:
    """What is drawn of one response. Sequences have one entry a token, EOS included."""

    text: str
    offsets: Sequence[tuple[int, int]]
    """Code points [start, end) of `text`."""
    values: np.ndarray
    """What is coloured; NaN where missing."""
    segments: Sequence[Segment]
    candidates: Sequence[int] = ()
    spans: Sequence[Span] = ()
    eos: str | None = None
    eos_kept: bool = True
    """The EOS may count although its segment does not."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Tokens [first, first + tokens) that are shown as one."""

    first: int
    tokens: int
    start: int
    end: int


def highlight(response: MarkedResponse, colouring: Colouring) -> Markup:
    """The response as blocks of coloured text, to be put into one container."""
    if not len(response.offsets):
        return plain(response.text, response.spans)
    return _Writer(response, colouring).write()


def plain(text: str, spans: Sequence[Span] = ()) -> Markup:
    """A text that nobody scored, with its labelled spans underlined."""
    edges = sorted(
        {0, len(text)} | {min(max(edge, 0), len(text)) for s in spans for edge in (s.start, s.end)}
    )
    parts: list[str] = ["<div class=t>"]
    for start, end in pairwise(edges):
        covering = [span for span in spans if span.start <= start < span.end]
        shown = visible(text[start:end])
        parts.append(f"{_span_tag(covering)}{shown}</span>" if covering else shown)
    parts.append("</div>")
    return Markup("".join(parts))  # noqa: S704 -- every text went through `visible`, every label through escape


def visible(text: str) -> str:
    """The text as HTML, with line breaks marked and characters that cannot be seen (controls, directions)
    written out by name, where they can do no harm."""
    return _NEEDS_CARE.sub(_write_out, text) if _NEEDS_CARE.search(text) else text


def _write_out(match: re.Match[str]) -> str:
    character = match.group()
    if character in "&<>\"'":
        return html.escape(character)
    if character == "\n":
        return "<u></u>\n"
    if character == "\t":
        return "<u class=tab></u>\t"
    return f'<u class=code data-c="U+{ord(character):04X}"></u>'


def pieces_of(text: str, offsets: Sequence[tuple[int, int]], has_eos: bool) -> list[_Piece]:
    """Tokens joined to what can be shown alone; the EOS, if there is one, is not among them."""
    count = len(offsets) - (1 if has_eos else 0)
    starts = [offsets[token][0] for token in range(count)]
    heads: list[int] = []
    reach = 0  # how far the tokens of the current piece go
    for token, start in enumerate(starts):
        joined = bool(heads) and (start < reach or starts[heads[-1]] == start or _continues(text, start))
        if not joined:
            heads.append(token)
        reach = max(reach, offsets[token][1])
    edges = [*heads, count]
    texts = [0, *(starts[head] for head in heads[1:]), len(text)]
    return [
        _Piece(first, after - first, start, end)
        for (first, after), (start, end) in zip(pairwise(edges), pairwise(texts), strict=True)
    ]


def _continues(text: str, start: int) -> bool:
    """Whether the character at `start` belongs to the one before it: a combining mark, a variation, a joined
    or toned emoji, the second half of a flag."""
    if start <= 0 or start >= len(text) or not _JOINS_BACKWARDS.match(text[start]):
        return False
    character, before = text[start], text[start - 1]
    if before == _ZERO_WIDTH_JOINER or character == _ZERO_WIDTH_JOINER:
        return True
    if "\U0001f3fb" <= character <= "\U0001f3ff":
        return True
    if _is_flag_half(character):
        halves = 0
        while start - halves > 0 and _is_flag_half(text[start - halves - 1]):
            halves += 1
        return halves % 2 == 1
    return unicodedata.category(character) in ("Mn", "Me", "Mc")


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def pivot_ranks(segments: Sequence[Segment]) -> dict[int, int]:
    """Position of every pivot -> its rank: 1 is where the segment reward turns furthest."""
    turns = []
    for before, after in pairwise(segments):
        turn = abs(after.reward - before.reward)
        turns.append((-turn if turn == turn else 0.0, after.start))
    return {position: rank for rank, (_, position) in enumerate(sorted(turns), start=1)}


class _Writer:
    """Writes one response, keeping what is open: block, segment, labelled span."""

    def __init__(self, response: MarkedResponse, colouring: Colouring) -> None:
        self.response = response
        self.levels = colouring.levels(response.values)
        self.pieces = pieces_of(response.text, response.offsets, response.eos is not None)
        self.ranks = pivot_ranks(response.segments)
        self.candidates = set(response.candidates)
        self.parts: list[str] = []

    def write(self) -> Markup:
        response, parts = self.response, self.parts
        gutter = self._gutter()
        starts = {segment.start: segment for segment in response.segments}
        covering = _cover(response.spans, self.pieces)
        parts.append("<div class=t>")
        segment: Segment | None = None
        labels: list[Span] = []
        block_start, block_tokens = 0, 0
        for piece, spans in zip(self.pieces, covering, strict=True):
            begun = self._segment_begun(starts, piece)
            if begun is not None or spans != labels:
                if labels:
                    parts.append("</span>")
                if begun is not None:
                    parts.append("</span>" if segment is not None else "")
                    parts.extend(gutter.pop(t) for t in range(piece.first, begun.start + 1) if t in gutter)
                    parts.append(_state_tag(begun.kept))
                    segment = begun
                labels = spans
                if labels:
                    parts.append(_span_tag(labels))
            text = response.text[piece.start : piece.end]
            parts.append(self._piece(piece, text))
            block_tokens += piece.tokens
            if self._block_ends(text, piece.end - block_start, block_tokens):
                parts.append("</span>" * ((segment is not None) + bool(labels)) + "</div><div class=t>")
                parts.append(_state_tag(segment.kept) if segment is not None else "")
                parts.append(_span_tag(labels) if labels else "")
                block_start, block_tokens = piece.end, 0
        parts.append("</span>" * ((segment is not None) + bool(labels)))
        if response.eos is not None:
            parts.append(self._end(starts, gutter, segment))
        parts.append("</div>")
        return Markup("".join(parts))  # noqa: S704 -- made of `visible` texts, escaped labels and numbers

    @staticmethod
    def _segment_begun(starts: dict[int, Segment], piece: _Piece) -> Segment | None:
        """The last segment that begins within the piece: a piece that hides a pivot shows it."""
        if piece.tokens == 1:
            return starts.get(piece.first)
        found = [starts[t] for t in range(piece.first, piece.first + piece.tokens) if t in starts]
        return found[-1] if found else None

    @staticmethod
    def _block_ends(text: str, characters: int, tokens: int) -> bool:
        if text.endswith("\n"):
            return characters >= BLOCK_CHARACTERS
        return tokens >= BLOCK_TOKENS and text[-1:].isspace()

    def _piece(self, piece: _Piece, text: str) -> str:
        if piece.tokens == 1:
            return f"{self._open(piece.first, 1)}{visible(text)}</i>"
        return f"{self._open(self._strongest(piece), piece.tokens, piece.first)}{visible(text)}</i>"

    def _strongest(self, piece: _Piece) -> int:
        """The token whose colour the joined piece takes."""
        tokens = range(piece.first, piece.first + piece.tokens)
        return max(tokens, key=lambda token: abs(self.levels[token] or 0))

    def _open(self, token: int, tokens: int, first: int | None = None, extra: str = "") -> str:
        level = self.levels[token]
        colour = "q" if level is None else f"b{level}" if level else ""
        first = token if first is None else first
        hidden = range(first, first + tokens)
        rank = next((self.ranks[t] for t in hidden if t in self.ranks), None)
        candidate = rank is None and any(t in self.candidates for t in hidden)
        if rank is None and not candidate and tokens == 1 and not extra:
            return f"<i class={colour}>" if colour else "<i>"
        classes = " ".join(
            word for word in (colour, "p" if rank else "", "c" if candidate else "", extra) if word
        )
        data = f" data-p={rank}" if rank else ""
        count = f" data-n={tokens}" if tokens > 1 else ""
        return f'<i class="{classes}"{data}{count}>' if classes else f"<i{data}{count}>"

    def _end(self, starts: dict[int, Segment], gutter: dict[int, str], segment: Segment | None) -> str:
        """The EOS, in a segment of its own making or in the last one, and marked as what it is."""
        position = len(self.response.offsets) - 1
        begun = starts.get(position)
        mark = f"{self._open(position, 1, extra='e')}{visible(self.response.eos or '')}</i>"
        if begun is None and segment is None:
            return mark
        return f"{gutter.get(position, '')}{_state_tag(self.response.eos_kept)}{mark}</span>"

    def _gutter(self) -> dict[int, str]:
        """Position of a segment's first token -> the entry that stands beside it."""
        starts, response = [], self.response
        for segment in response.segments:
            starts.append(response.offsets[segment.start][0])
        entries: dict[int, str] = {}
        group: list[Segment] = []
        group_start = 0
        for segment, start in zip(response.segments, starts, strict=True):
            crosses = "\n" in response.text[group_start:start] if group else False
            if group and (start - group_start >= GUTTER_CHARACTERS or crosses):
                entries[group[0].start] = gutter_entry(group)
                group = []
            if not group:
                group_start = start
            group.append(segment)
        if group:
            entries[group[0].start] = gutter_entry(group)
        return entries


def gutter_entry(segments: Sequence[Segment]) -> str:
    """What stands beside the text: reward and state of a segment, or the range of many short ones."""
    if len(segments) <= GUTTER_SEGMENTS:
        return f"<b class=g>{''.join(_gutter_line(segment) for segment in segments)}</b>"
    kept = sum(segment.kept for segment in segments)
    rewards = [segment.reward for segment in segments if segment.reward == segment.reward]
    span = f"{signed(min(rewards))} … {signed(max(rewards))}" if rewards else "no reward"
    return f"<b class=g><s class=k>{kept}✓ {len(segments) - kept}✕</s><s>{span}</s></b>"


def _gutter_line(segment: Segment) -> str:
    number = signed(segment.reward)
    glyph = "✓" if segment.kept else "✕"
    disputed = "≠" if segment.disputed else ""
    return f"<s class={'k' if segment.kept else 'm'}>{disputed}{number} {glyph}</s>"


def _state_tag(kept: bool) -> str:
    return "<span class=s>" if kept else '<span class="s m">'


def _span_tag(spans: Sequence[Span]) -> str:
    values = [span.value for span in spans]
    kind = "w" if any(v is not None and v < 0 for v in values) else "r" if any(v for v in values) else "o"
    label = html.escape(" · ".join(dict.fromkeys(span.label for span in spans)))
    return f'<span class="l {kind}" title="{label}">'


def _cover(spans: Sequence[Span], pieces: Sequence[_Piece]) -> list[list[Span]]:
    """The labelled spans that each piece touches."""
    if not spans:
        nothing: list[Span] = []
        return [nothing] * len(pieces)
    return [[span for span in spans if span.start < piece.end and piece.start < span.end] for piece in pieces]
