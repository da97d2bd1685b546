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
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, compress, pairwise, repeat
from operator import le, lt, ne
from typing import NamedTuple

from markupsafe import Markup

from app.pages.parts.numbers import signed
from app.services.pairs.drawing import LEVELS
from engine.types import Segment, Span

GUTTER_CHARACTERS = 72
"""A gutter entry speaks for the segments that begin within about one line of text."""
GUTTER_SEGMENTS = 2
"""An entry of the gutter that stands for more segments than this gives their range instead."""
SHOWN_RANKS = 99
"""Pivots of a higher rank have a ring without a number."""
BLOCK_CHARACTERS = 320
"""A block of text ends with the first line break after this many code points ..."""
BLOCK_PIECES = 600
"""... or, where no line ever ends, before a space after this many pieces: the browser skips what is off
screen block by block."""

_NEEDS_CARE = re.compile(
    "[&<>\"'\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufeff]"
)
_JOINS_BACKWARDS = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670-\uffff]|[\U00010000-\U0010ffff]"
)
_ZERO_WIDTH_JOINER = "\u200d"


class TokenVerdict(NamedTuple):
    """What a person said of the tokens [first, end)."""

    first: int
    end: int
    verdict: str
    """`right`, `wrong` or `unsure`."""


@dataclass(frozen=True, slots=True)
class MarkedResponse:
    """What is drawn of one response. Sequences have one entry a token, EOS included."""

    text: str
    starts: Sequence[int]
    """The code point of `text` at which each token starts."""
    ends: Sequence[int]
    """The code point after its last one."""
    levels: Sequence[int | None]
    """The class of colour of each token, -10 to 10; None where its value is missing."""
    segments: Sequence[Segment] = ()
    ranks: Mapping[int, int] = field(default_factory=dict)
    """Position of every pivot, and its rank."""
    candidates: Sequence[int] = ()
    refused: Sequence[int] = ()
    """The candidates that did not clear the band."""
    differing: Sequence[bool] | None = None
    """True at the tokens that the other side does not have; None where the sides are not compared."""
    spans: Sequence[Span] = ()
    said: Sequence[TokenVerdict] = ()
    eos: str | None = None
    eos_kept: bool = True
    """The EOS may count although its segment does not."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """What can be shown alone, in order; lists have one entry a piece. The EOS is not among them."""

    first: list[int]
    """The first token of the piece."""
    tokens: list[int]
    """How many tokens it stands for."""
    start: list[int]
    """Code points [start, end) of the text; together they cover it."""
    end: list[int]

    @property
    def are_tokens(self) -> bool:
        """Whether each piece is one token."""
        return not self.first or self.first[-1] + self.tokens[-1] == len(self.first)


def highlight(response: MarkedResponse) -> Markup:
    """The response as blocks of coloured text, to be put into one container."""
    if not response.starts:
        return plain(response.text, response.spans)
    return _Writer(response).write()


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
    return _NEEDS_CARE.sub(_write_out, text)


_WRITTEN = {character: html.escape(character) for character in "&<>\"'"} | {
    "\n": "<u></u>\n",
    "\t": "<u class=tab></u>\t",
}


def _write_out(match: re.Match[str]) -> str:
    character = match.group()
    return _WRITTEN.get(character) or f'<u class=code data-c="U+{ord(character):04X}"></u>'


_visible_piece = lru_cache(maxsize=4096)(visible)
"""The same few pieces with quotes and line breaks come again and again."""


def pieces_of(text: str, starts: Sequence[int], ends: Sequence[int], has_eos: bool) -> Pieces:
    """Tokens joined to what can be shown alone: those that share a character, and marks with their letter."""
    count = len(starts) - (1 if has_eos else 0)
    if count <= 0:
        return Pieces([], [], [], [])
    starts, ends = starts[:count], ends[:count]
    if text.isascii() and all(map(lt, starts, starts[1:])) and all(map(le, ends, starts[1:])):
        first, tokens, edges = list(range(count)), [1] * count, [0, *starts[1:]]
    else:
        first = _begins(text, starts, ends)
        tokens = [end - begin for begin, end in pairwise([*first, count])]
        edges = [0, *(starts[token] for token in first[1:])]
    return Pieces(first=first, tokens=tokens, start=edges, end=[*edges[1:], len(text)])


def _begins(text: str, starts: Sequence[int], ends: Sequence[int]) -> list[int]:
    """The tokens that begin a piece: where no token before reaches, and no mark belongs to what is before."""
    first = [0]
    for token, reach in enumerate(accumulate(ends[:-1], max), start=1):
        start = starts[token]
        if start >= reach and start != starts[token - 1] and not _continues(text, start):
            first.append(token)
    return first


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


class _Writer:
    """Writes one response: a cell for each piece, and between the cells what opens and closes there."""

    def __init__(self, response: MarkedResponse) -> None:
        self.response = response
        self.levels = response.levels
        self.pieces = pieces_of(response.text, response.starts, response.ends, response.eos is not None)
        self.ranks = response.ranks
        self.candidates = dict.fromkeys(response.candidates, "c") | dict.fromkeys(response.refused, "x")

    def write(self) -> Markup:
        cells = self._cells()
        parts: list[str] = ["<div class=t>"]
        done, closing = 0, ""
        for piece, opening, closes in self._seams():
            parts += cells[done:piece]
            parts.append(closing + opening)
            done, closing = piece, closes
        parts += cells[done:]
        parts.append(closing)
        if self.response.eos is not None:
            parts.append(self._end())
        parts.append("</div>")
        return Markup("".join(parts))  # noqa: S704 -- made of `visible` texts, escaped labels and numbers

    # -------------------------------------------------------------------------------------- the cells

    def _cells(self) -> list[str]:
        """Every piece as HTML."""
        text, pieces, levels = self.response.text, self.pieces, self.levels
        texts = [text[start:end] for start, end in zip(pieces.start, pieces.end, strict=True)]
        for piece in self._pieces_of([match.start() for match in _NEEDS_CARE.finditer(text)]):
            texts[piece] = _visible_piece(texts[piece])
        tags = [_TAGS[levels[token]] for token in pieces.first]
        for token, mark in self.candidates.items():
            if (marked := self._piece_of(token)) is not None:
                tags[marked] = _CANDIDATE_TAGS[mark][levels[token]]
        for token, rank in self.ranks.items():
            if (marked := self._piece_of(token)) is not None:
                tags[marked] = _PIVOT_TAGS[levels[token]]
                texts[marked] = _ringed(text[pieces.start[marked] : pieces.end[marked]], rank)
        if not pieces.are_tokens:
            for piece, tokens in enumerate(pieces.tokens):
                if tokens > 1:
                    tags[piece] = self._joined_tag(piece)
        for said in self.response.said:
            self._say(tags, said)
        return [f"{tag}{shown}</i>" for tag, shown in zip(tags, texts, strict=True)]

    def _say(self, tags: list[str], said: TokenVerdict) -> None:
        """Marks the pieces of a label; the first one carries its sign."""
        first = self._piece_of(said.first)
        last = self._piece_of(said.end - 1)
        if first is None:
            return
        for piece in range(first, (len(tags) - 1 if last is None else last) + 1):
            begins = " data-b" if piece == first else ""
            tags[piece] = f"<i data-v={said.verdict}{begins}{tags[piece].removeprefix('<i')}"

    def _pieces_of(self, characters: list[int]) -> list[int]:
        """The pieces that hold any of these characters."""
        if not characters or not self.pieces.start:
            return []
        after = map(bisect_right, repeat(self.pieces.start), characters)
        return [piece - 1 for piece in dict.fromkeys(after)]

    def _piece_of(self, token: int) -> int | None:
        """The piece that shows a token; None for the EOS."""
        first, tokens = self.pieces.first, self.pieces.tokens
        if token < len(first) and first[token] == token:
            return token  # nothing was joined before it
        if not first or token >= first[-1] + tokens[-1]:
            return None
        return bisect_right(first, token) - 1

    def _joined_tag(self, piece: int) -> str:
        """The opening tag of a piece that stands for several tokens: it takes the colour of the strongest,
        and shows a pivot or candidate that any of them is."""
        first, count = self.pieces.first[piece], self.pieces.tokens[piece]
        tokens = range(first, first + count)
        strongest = max(tokens, key=lambda token: abs(self.levels[token] or 0))
        is_pivot = any(token in self.ranks for token in tokens)
        marks = sorted(self.candidates[token] for token in tokens if token in self.candidates)
        mark = "p" if is_pivot else marks[0] if marks else ""
        return _open_tag(self.levels[strongest], mark=mark, tokens=count)

    # -------------------------------------------------------------------------------------- the seams

    def _seams(self) -> Iterator[tuple[int, str, str]]:
        """Where something opens: the piece before which it does, how, and what will close it again."""
        begun = self._begun_segments()
        gutter = self._gutter()
        spans = self._span_changes()
        differing = self._differing_changes()
        blocks = set(self._block_starts())
        kept: bool | None = None
        labels = difference = ""
        for piece in sorted(begun.keys() | spans.keys() | differing.keys() | blocks):
            opening = "</div><div class=t>" if piece in blocks else ""
            for segment in begun.get(piece, ()):
                opening += gutter.get(segment.start, "")
                kept = segment.kept
            labels = spans.get(piece, labels)
            difference = differing.get(piece, difference)
            opening += ("" if kept is None else _state_tag(kept)) + labels + difference
            yield piece, opening, "</span>" * ((kept is not None) + bool(labels) + bool(difference))

    def _begun_segments(self) -> dict[int, list[Segment]]:
        """The segments that begin within each piece."""
        begun: dict[int, list[Segment]] = {}
        for segment in self.response.segments:
            piece = self._piece_of(segment.start)
            if piece is not None:
                begun.setdefault(piece, []).append(segment)
        return begun

    def _span_changes(self) -> dict[int, str]:
        """Before which pieces the labels change, and the tag of the new ones (empty: none)."""
        covering: dict[int, list[Span]] = {}
        starts, ends = self.pieces.start, self.pieces.end
        for span in self.response.spans:
            for piece in range(bisect_right(ends, span.start), bisect_left(starts, span.end)):
                covering.setdefault(piece, []).append(span)
        changes: dict[int, str] = {}
        for piece, spans in covering.items():
            if covering.get(piece - 1) != spans:
                changes[piece] = _span_tag(spans)
            if piece + 1 not in covering and piece + 1 < len(starts):
                changes[piece + 1] = ""
        return changes

    def _differing_changes(self) -> dict[int, str]:
        """Before which pieces a stretch begins that the other side lacks, and (empty) where it ends."""
        differing = self.response.differing
        if differing is None:
            return {}
        pieces = self.pieces
        marked = differing[: len(pieces.first)]
        if not pieces.are_tokens:
            held = zip(pieces.first, pieces.tokens, strict=True)
            marked = [any(differing[first : first + tokens]) for first, tokens in held]
        changes = compress(range(len(marked)), map(ne, marked, [False, *marked]))
        return {piece: "<span class=d>" if marked[piece] else "" for piece in changes}

    def _block_starts(self) -> Iterator[int]:
        """Pieces that begin a block: after a line break when the block is long enough, and before a space
        where no line ever ends."""
        text, starts = self.response.text, self.pieces.start
        breaks = [piece for piece, start in enumerate(starts) if piece and text[start - 1] == "\n"]
        begun = 0
        for piece in [*breaks, len(starts)]:
            while (space := self._space_between(begun + BLOCK_PIECES, piece)) is not None:
                begun = space
                yield space
            if piece < len(starts) and starts[piece] - starts[begun] >= BLOCK_CHARACTERS:
                begun = piece
                yield piece

    def _space_between(self, first: int, end: int) -> int | None:
        """The first of the pieces [first, end) that begins with a space."""
        text, starts = self.response.text, self.pieces.start
        return next((piece for piece in range(first, end) if text[starts[piece]].isspace()), None)

    def _end(self) -> str:
        """The EOS, marked as what it is, with the state that the mask gives it."""
        position = len(self.response.starts) - 1
        rank = self.ranks.get(position)
        mark = "p" if rank is not None else self.candidates.get(position, "")
        tag = _open_tag(self.levels[position], mark=mark, extra="e")
        begins = any(segment.start == position for segment in self.response.segments[-1:])
        beside = self._gutter().get(position, "") if begins else ""
        state = _state_tag(self.response.eos_kept)
        return f"{beside}{state}{tag}{_ringed(self.response.eos or '', rank)}</i></span>"

    def _gutter(self) -> dict[int, str]:
        """Position of a segment's first token -> the entry that stands beside it."""
        text, segments = self.response.text, self.response.segments
        starts = [self.response.starts[segment.start] for segment in segments]
        entries: dict[int, str] = {}
        group: list[Segment] = []
        group_start = 0
        for segment, start in zip(segments, starts, strict=True):
            # The end alone may need a line that the text does not have, so it joins an entry near by.
            reach = GUTTER_CHARACTERS * (2 if start == len(text) else 1)
            far = start - group_start >= reach
            if group and (far or text.find("\n", group_start, start) >= 0):
                entries[group[0].start] = gutter_entry(group)
                group = []
            if not group:
                group_start = start
            group.append(segment)
        if group:
            entries[group[0].start] = gutter_entry(group)
        return entries


def _ringed(text: str, rank: int | None) -> str:
    """A pivot's text with its ring; the space before a word stays outside, where a line may end."""
    if rank is None:
        return visible(text)
    lead = len(text) - len(text.lstrip())
    lead = 0 if lead == len(text) else lead
    tag = f"<em data-p={rank}>" if rank <= SHOWN_RANKS else "<em>"
    return f"{_visible_piece(text[:lead])}{tag}{_visible_piece(text[lead:])}</em>"


def _open_tag(level: int | None, *, mark: str = "", tokens: int = 1, extra: str = "") -> str:
    """The opening tag of a piece; `mark` is p (pivot), c (candidate) or x (a refused one)."""
    colour = "q" if level is None else f"b{level}" if level else ""
    classes = " ".join(word for word in (colour, mark, extra) if word)
    count = f" data-n={tokens}" if tokens > 1 else ""
    if not classes:
        return f"<i{count}>"
    return f"<i class={classes}{count}>" if " " not in classes else f'<i class="{classes}"{count}>'


_TAGS: dict[int | None, str] = {level: _open_tag(level) for level in (None, *range(-LEVELS, LEVELS + 1))}
"""The opening tags of pieces that are neither pivot nor candidate."""
_CANDIDATE_TAGS = {mark: {level: _open_tag(level, mark=mark) for level in _TAGS} for mark in "cx"}
_PIVOT_TAGS = {level: _open_tag(level, mark="p") for level in _TAGS}


def gutter_entry(segments: Sequence[Segment]) -> str:
    """What stands beside the text: reward and state of a segment, or the range of many short ones."""
    if len(segments) <= GUTTER_SEGMENTS:
        return f"<b class=g>{''.join(_gutter_line(segment) for segment in segments)}</b>"
    kept = sum(segment.kept for segment in segments)
    rewards = [segment.reward for segment in segments if segment.reward == segment.reward]
    span = f"{signed(min(rewards), 2)}…{signed(max(rewards), 2)}" if rewards else "no reward"
    return f"<b class=g><s class=k>{kept}✓ {len(segments) - kept}✕</s><s>{span}</s></b>"


def _gutter_line(segment: Segment) -> str:
    number = signed(segment.reward, 2)
    glyph = "✓" if segment.kept else "✕"
    disputed = "≠" if segment.disputed else ""
    return f"<s{' class=k' if segment.kept else ''}>{disputed}{number} {glyph}</s>"


def _state_tag(kept: bool) -> str:
    return "<span class=s>" if kept else '<span class="s m">'


def readable(label: str) -> str:
    """A label as words: `wrong_city` as "wrong city"."""
    return label.replace("_", " ")


def _span_tag(spans: Sequence[Span]) -> str:
    values = [span.value for span in spans]
    kind = "w" if any(v is not None and v < 0 for v in values) else "r" if any(v for v in values) else "o"
    label = html.escape(" · ".join(dict.fromkeys(readable(span.label) for span in spans)))
    return f'<span class="l {kind}" title="{label}">'
