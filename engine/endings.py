"""What ends a turn: the tokens after which a response is over, whoever says so.

A turn ends with what the chat template writes after an answer, and a text with the tokenizer's EOS; the
model's own generation settings may name more. The template may end a turn with any added token, whether it is
called special or not, with several in a row, or with words that are no token of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from engine.conversations import ChatTemplate


class Ending(NamedTuple):
    """What of the text after an answer ends the turn."""

    length: int
    """Code points, from the end of the answer; 0 where nothing does."""
    tokens: tuple[str, ...]
    """Added tokens that it ends with, all of one run; empty where it is made of words."""


def marks_of(tokenizer: Any) -> Marks:
    """The marks of a tokenizer, made once unless tokens are added to it."""
    kept = _kept.get(tokenizer)
    if kept is None or kept[0] != len(tokenizer):
        kept = _kept[tokenizer] = len(tokenizer), Marks(tokenizer)
    return kept[1]


_kept: WeakKeyDictionary[Any, tuple[int, Marks]] = WeakKeyDictionary()


class Marks:
    """The added tokens of a tokenizer that mark something: all but those that stand for mere white space."""

    def __init__(self, tokenizer: Any) -> None:
        names = {token.content: index for index, token in tokenizer.added_tokens_decoder.items()}
        names |= dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
        self._ids = {name: index for name, index in names.items() if name.strip()}
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        self.ids = frozenset(self._ids.values())
        """Their token ids."""

    def ending(self, after: str) -> Ending:
        """What ends the turn in the text that a template writes after an answer: all up to the end of the
        first run of such tokens, or, where there is none, up to its last word."""
        found = self._pattern.search(after) if self._pattern is not None else None
        if found is None:
            return Ending(len(after.rstrip()), ())
        run, end = [], 0
        while found is not None and self._pattern is not None:
            run.append(found[0])
            end = found.end()
            found = self._pattern.match(after, end)
        return Ending(end, tuple(run))

    def length_at_end(self, text: str) -> int:
        """How many code points of marks and of white space after them a text ends with; 0 where none."""
        bare = text.rstrip()
        start = len(bare)
        runs = [found.span() for found in self._pattern.finditer(bare)] if self._pattern is not None else []
        for begins, ends in reversed(runs):
            if ends != start:
                break
            start = begins
        return len(text) - start if start < len(bare) else 0

    def ids_of(self, ending: Ending) -> list[int]:
        """The ids of the tokens of an ending."""
        return [self._ids[name] for name in ending.tokens]


def ends_of_responses(tokenizer: Any, generation: Iterable[int] = ()) -> list[int]:
    """The tokens after which a response is over: the EOS, those of the model's generation settings
    (`generation`, see `ModelInfo.eos_token_ids`), and what the chat template ends a turn with."""
    ends = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    ends += [int(end) for end in generation]
    if tokenizer.chat_template:
        marks, after = marks_of(tokenizer), ChatTemplate(tokenizer).after_an_answer()
        ends += marks.ids_of(marks.ending(after or ""))
    return list(dict.fromkeys(ends))


def about_endings(tokenizer: Any, generation: Iterable[int] = ()) -> list[str]:
    """Sentences on what is odd about how responses end; none where nothing is."""
    after = ChatTemplate(tokenizer).after_an_answer() if tokenizer.chat_template else None
    marks = marks_of(tokenizer)
    ending = marks.ending(after or "")
    notes = []
    if after is not None and ending.length and not ending.tokens:
        notes.append(
            f"The chat template ends a turn with `{after.strip()}`, which is no token of its own: responses "
            "that are drawn do not end there. Add it to the tokenizer as a special token."
        )
    if not ends_of_responses(tokenizer, generation):
        notes.append(
            "The tokenizer names no EOS and the model no other end: responses have no token that ends them, "
            "stopping is neither scored nor learned, and those that are drawn go on to their limit."
        )
    return notes
