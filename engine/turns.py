"""An answer that is more than one text, such as thoughts before it or calls of tools, as people read it.

Models are given the messages, by their chat template; the text here is what pages show and positions count.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from engine.types import Message

THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""What rows call what an assistant thinks before it answers."""
OTHERS = (*THOUGHTS, "tool_calls", "tool_call_id", "name", "tools")
"""What a message may have besides `role` and `content`: chat templates know it by these names."""


class Piece(NamedTuple):
    """A stretch of an answer as people read it."""

    text: str
    parts: tuple[str, ...] = ()
    """What of it a template writes in any case, in order, where it does not write the stretch as it is."""


def text_of(turns: Sequence[Message]) -> str:
    """The turns of an answer as one text."""
    return "".join(piece.text for piece in pieces_of(turns))


def pieces_of(turns: Sequence[Message]) -> Iterator[Piece]:
    """The turns of an answer in pieces that together are its text: thoughts, words and calls."""
    for turn in turns:
        for name in THOUGHTS:
            if name in turn.others:
                yield from (Piece("<think>\n"), Piece(turn.others[name]), Piece("\n</think>\n\n"))
        if turn.content:
            yield Piece(turn.content)
        for index, call in enumerate(turn.others.get("tool_calls", ())):
            if index or turn.content:
                yield Piece("\n")
            yield from (Piece("<tool_call>\n"), _call(call), Piece("\n</tool_call>"))


def _call(call: Mapping[str, Any]) -> Piece:
    """What is called with what, as most templates write it."""
    called = call.get("function", call)
    if not isinstance(called, Mapping):
        called = call
    words = tuple(value if isinstance(value, str) else _json(value) for value in called.values())
    return Piece(_json(called), words)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
