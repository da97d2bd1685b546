"""A conversation as its chat template writes it: the exact text, and where in it the answer stands.

A model reads what its template makes of prompt and answer together, never an answer that was put behind a
rendered prompt: templates write a space before the answer, trim it, put an empty think block before it, or
end the turn in ways of their own. Where the answer stands is found by rendering the same conversation with
another answer: what both have in common is the template's. Knows texts alone; `tokens` makes tokens of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32

from engine.errors import DataError, EngineError, ModelError
from engine.turns import THOUGHTS, Piece, pieces_of
from engine.types import Message, Response

ANOTHER_ANSWER = "An answer that nobody gave."
"""What is rendered to see what the template writes around an answer."""
_TOOL = {
    "type": "function",
    "function": {"name": "look_up_weather", "description": "Weather of a place.", "parameters": {}},
}
_NOW = re.compile(r"""\bstrftime_now\(\s*(?:'([^'\\]*)'|"([^"\\]*)")\s*\)""")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation that ends with an answer, as text. Positions are code points."""

    text: str
    """All of it, with what the template writes after the answer."""
    start: int
    """Where the answer begins: what stands before is the prompt's side, a newline or think block included."""
    end: int
    """Where the answer ends and the template goes on."""
    places: Int32[np.ndarray, " answer+1"]
    """For every position in [start, end] the one in the answer as the row has it, which the template may have
    trimmed or spaced otherwise."""

    @property
    def after(self) -> str:
        """What the template writes after the answer: its ending, and perhaps more."""
        return self.text[self.end :]


class _Given(NamedTuple):
    """A prompt as templates take it."""

    turns: list[dict[str, Any]]
    tools: list[Any] | None


class _Around(NamedTuple):
    """What the template writes before and after any answer to a prompt."""

    before: str
    after: str


class ChatTemplate:
    """The chat template of a tokenizer, with the date that it writes where it writes one."""

    def __init__(self, tokenizer: Any, day: date | None = None) -> None:
        """day: what a template that writes today's date takes for it. None: today."""
        self._tokenizer = tokenizer
        self._pinned = _with_date(_text_of(tokenizer), day)

    def opened(self, name: str, prompt: Sequence[Message]) -> str:
        """The prompt with the beginning of an answer, which is what a policy is given.

        A template that knows no generation prompt is given what it writes before an answer, but for spaces,
        which belong to the answer's first token. `name` names the row where the template refuses it.
        """
        given = _given(prompt)
        opened = self._render(name, given, opens=True)
        if opened == self._render(name, given, opens=False):
            before = self._around(name, given).before
            if before.startswith(opened):
                return before.rstrip(" ") if before.strip(" ") else opened
        return opened

    def begun(self, name: str, prompt: Sequence[Message]) -> str:
        """What of an answer the generation prompt has written already, such as an opened `<think>`."""
        given = _given(prompt)
        opened, before = self.opened(name, prompt), self._around(name, given).before
        return opened[len(before) :] if opened.startswith(before) else ""

    def answered(self, name: str, prompt: Sequence[Message], answers: Sequence[Response]) -> list[Rendered]:
        """The conversation with each of these answers. Raises DataError where the template refuses it, or
        writes nothing of what an answer is made of."""
        given = _given(prompt)
        texts = [self._render(name, given, _answer(answer), opens=False) for answer in answers]
        around = self._around(name, given)
        found = []
        for text, answer in zip(texts, answers, strict=True):
            if answer.turns:
                self._check_written(name, given, answer.turns, text)
                head = _common(self.opened(name, prompt), text)
                found.append(_in_pieces(text, around, head, answer))
                continue
            one = _between(text, around, answer.text)
            if one is None:
                head = _common(around.before, self._render(name, given, opens=True))
                one = _within(text, around, head, answer.text)
            found.append(one)
        return found

    def _check_written(self, name: str, given: _Given, turns: Sequence[Message], text: str) -> None:
        """Refuses an answer of which the template leaves out thoughts or calls: other words would be read."""
        for index, turn in enumerate(turns):
            for field in (*THOUGHTS, "tool_calls"):
                if field not in turn.others:
                    continue
                others = {key: value for key, value in turn.others.items() if key != field}
                less = [*turns[:index], replace(turn, others=others), *turns[index + 1 :]]
                if self._render(name, given, [one.as_row() for one in less], opens=False) == text:
                    raise DataError(
                        f"The chat template writes nothing of `{field}`, which an answer of row `{name}` "
                        "has; use a model whose template does, or write it into `content`."
                    )

    def after_an_answer(self) -> str | None:
        """What it writes after the answer to a question; None where it takes no such conversation."""
        try:
            return self._around("", _given([Message("user", "A question.")])).after
        except (DataError, ModelError):
            return None

    def _around(self, name: str, given: _Given) -> _Around:
        text = self._render(name, given, _answer(Response(ANOTHER_ANSWER)), opens=False)
        before, found, after = text.rpartition(ANOTHER_ANSWER)
        if not found:
            raise ModelError(
                "The chat template does not write what an assistant answers, so that no response can be "
                "read; use the template that the model was trained with."
            )
        return _Around(before, after)

    def _render(
        self, name: str, given: _Given, answer: Sequence[Mapping[str, Any]] = (), *, opens: bool
    ) -> str:
        try:
            text = self._tokenizer.apply_chat_template(
                [*given.turns, *answer],
                tools=given.tools,
                chat_template=self._pinned,
                add_generation_prompt=opens,
                tokenize=False,
            )
        except Exception as error:  # A template is a program of its author's and may raise anything.
            raise DataError(f"The chat template refuses the conversation of row `{name}`: {error}") from error
        return str(text)


def rendered(
    name: str, prompt: str | Sequence[Message], answers: Sequence[Response], template: ChatTemplate
) -> list[Rendered]:
    """What a model reads of a prompt with each of these answers: a conversation as the template writes it, a
    prompt that is text with the answer behind it. Raises as `ChatTemplate.answered` does."""
    if not isinstance(prompt, str):
        return template.answered(name, prompt, answers)
    start = len(prompt)
    texts = [answer.text for answer in answers]
    return [
        Rendered(prompt + text, start, start + len(text), np.arange(len(text) + 1, dtype=np.int32))
        for text in texts
    ]


def ignores_tools(tokenizer: Any) -> bool:
    """Whether the chat template writes nothing of the tools that a conversation brings."""
    asked, template = Message("user", "What is the weather?"), ChatTemplate(tokenizer)
    try:
        without, with_tools = (
            template.opened("example", [one]) for one in (asked, replace(asked, others={"tools": [_TOOL]}))
        )
    except EngineError:
        return False
    return without == with_tools


def about_tools(path: str, tokenizer: Any, conversations: int) -> list[str]:
    """What is said of so many conversations that bring tools, where the chat template of the model at `path`
    writes nothing of them."""
    if not conversations or not tokenizer.chat_template or not ignores_tools(tokenizer):
        return []
    bring = "1 conversation brings" if conversations == 1 else f"{conversations:,} conversations bring"
    return [f"The chat template of `{path}` ignores `tools`: {bring} them."]


def writes_date(tokenizer: Any) -> bool:
    """Whether the chat template asks what day it is."""
    return "strftime_now" in (_text_of(tokenizer) or "")


# ----------------------------------------------------------------------------------------------- the template


def _given(prompt: Sequence[Message]) -> _Given:
    turns = [message.as_row() for message in prompt]
    tools = turns[0].pop("tools", None) if turns else None
    return _Given(turns, tools)


def _answer(response: Response) -> list[dict[str, Any]]:
    turns = response.turns or (Message("assistant", response.text),)
    return [turn.as_row() for turn in turns]


def _text_of(tokenizer: Any) -> str | None:
    if not tokenizer.chat_template:
        return None
    text: str = tokenizer.get_chat_template()
    return text


def _with_date(template: str | None, day: date | None) -> str | None:
    """The template with the date written into it; None where it may stay as it is."""
    if template is None or day is None or "strftime_now" not in template:
        return None
    moment = datetime.combine(day, time())
    return _NOW.sub(lambda found: json.dumps(moment.strftime(found[1] or found[2] or "")), template)


# ------------------------------------------------------------------------------------ where the answer stands


def _between(text: str, around: _Around, answer: str) -> Rendered | None:
    """The answer between what the template writes around any; None where it did more than to space it."""
    before, after = around
    inside = len(text) - len(before) - len(after)
    if inside < 0 or not text.startswith(before) or not text.endswith(after):
        return None
    written = text[len(before) : len(before) + inside]
    if written == answer:
        places = np.arange(inside + 1, dtype=np.int32)
        return Rendered(text, len(before), len(before) + inside, places)
    if written.split() == answer.split():
        return _placed(text, len(before), len(before) + inside, answer)
    return None


def _within(text: str, around: _Around, head: int, answer: str) -> Rendered:
    """The answer in a turn that the template writes in another way than any other answer's."""
    head = min(head, _common(text, around.before))
    tail = min(_common(text[::-1], around.after[::-1]), len(text) - head)
    return _placed(text, head, len(text) - tail, answer)


def _in_pieces(text: str, around: _Around, head: int, answer: Response) -> Rendered:
    """An answer of thoughts, words and calls: all that the template writes of its turns."""
    end = len(text) - (len(around.after) if text[head:].endswith(around.after) else 0)
    partners = _partners_of_pieces(text[head:end], pieces_of(answer.turns))
    return Rendered(text, head, end, _filled(partners, len(answer.text)))


def _partners_of_pieces(written: str, pieces: Iterable[Piece]) -> Int32[np.ndarray, " written"]:
    """As `_partners`, for pieces that the template writes in this order with words of its own between."""
    partners = np.full(len(written), -1, np.int32)
    at = of = 0
    for piece in pieces:
        stripped = piece.text.strip()
        whole = next((one for one in (piece.text, stripped) if one and written.find(one, at) >= 0), None)
        if not stripped:  # White space alone would be found anywhere.
            whole = piece.text if written.startswith(piece.text, at) else ""
        inside = 0
        for part in piece.parts if whole is None else (whole,):
            found, place = written.find(part, at), piece.text.find(part, inside)
            if part and found >= 0 and place >= 0:
                partners[found : found + len(part)] = of + place + np.arange(len(part))
                at, inside = found + len(part), place + len(part)
        of += len(piece.text)
    return partners


def _placed(text: str, start: int, end: int, answer: str) -> Rendered:
    """The answer in text[start:end], without what the template put before and after it."""
    written = text[start:end]
    partners = _partners(written, answer)
    matched = np.flatnonzero(partners >= 0)
    if not len(matched):
        places = np.minimum(np.arange(len(written) + 1), len(answer)).astype(np.int32)
        places[-1] = len(answer)
        return Rendered(text, start, end, places)
    first, last = int(matched[0]), int(matched[-1]) + 1
    return Rendered(text, start + first, start + last, _filled(partners[first:last], len(answer)))


def _filled(partners: Int32[np.ndarray, " written"], length: int) -> Int32[np.ndarray, " written+1"]:
    """Places of all characters and the end: what has no partner stands where the next one that has does."""
    places = np.append(partners, length)
    known = np.where(places < 0, length, places)
    filled: np.ndarray = np.minimum.accumulate(known[::-1])[::-1].astype(np.int32)
    return filled


def _partners(written: str, answer: str) -> Int32[np.ndarray, " written"]:
    """For each character of `written` its place in the answer, or -1: found from the end, and then from the
    beginning, over what differs by white space alone."""
    partners = np.full(len(written), -1, np.int32)
    at, of = len(written), len(answer)
    while at and of:
        if written[at - 1] == answer[of - 1]:
            at, of = at - 1, of - 1
            partners[at] = of
        elif written[at - 1].isspace():
            at -= 1
        elif answer[of - 1].isspace():
            of -= 1
        else:
            break
    if not answer[:of].strip():
        return partners
    most, length, at, of = at, of, 0, 0
    while at < most and of < length:
        if written[at] == answer[of]:
            partners[at] = of
            at, of = at + 1, of + 1
        elif written[at].isspace():
            at += 1
        elif answer[of].isspace():
            of += 1
        else:
            break
    return partners


def _common(one: str, other: str) -> int:
    """How many characters both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
