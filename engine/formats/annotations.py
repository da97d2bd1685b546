"""What a row says of the words of a response: labelled spans, and token rewards with their characters.

A pair's columns begin with the side, as in `chosen_spans`; reading and writing them loses nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from engine.formats.conversations import messages_of
from engine.formats.registry import UnreadField
from engine.turns import text_of
from engine.types import Message, Response, Span

MAX_LABEL_CHARACTERS = 512
ANNOTATIONS = (
    *("spans", "tokens", "response_tokens", "token_reward", "token_rewards", "token_offsets"),
    *("logprobs", "ref_logprobs"),
)
"""What a row says of the words of a response; a pair's columns begin with the side."""

PRAISE = frozenset(
    {"fix", "fixed", "right", "correct", "corrected", "correction", "good", "true", "positive"}
)
"""Labels that praise what they mark: value +1."""


def take_response(
    row: dict[str, Any], side: str, text: str | None, *, is_conversation: bool
) -> Response | None:
    """The response of a side with what its columns say, which leave the row. Raises UnreadField."""
    turns = row.pop(f"{side}_turns", None)
    spans = row.pop(f"{side}_spans", None)
    rewards_field = next(
        (name for name in (f"{side}_token_rewards", f"{side}_token_reward") if row.get(name) is not None),
        None,
    )
    rewards = None if rewards_field is None else row.pop(rewards_field)
    offsets = row.pop(f"{side}_token_offsets", None)
    logprobs = _take_logprobs(row, side)
    if (rewards is not None or logprobs) and offsets is None and text:
        offsets = _offsets_of_tokens(row, side, text)
    for alias in (f"{side}_token_rewards", f"{side}_token_reward"):
        if alias in row and row[alias] is None:
            del row[alias]
    if text is None:
        for field, value in (
            (f"{side}_spans", spans),
            (rewards_field, rewards),
            (f"{side}_logprobs", logprobs),
            (f"{side}_turns", turns),
        ):
            if value:
                raise UnreadField(field, f"is given, but `{side}` is null; add the response or remove this.")
        return None
    if not text:
        raise UnreadField(side, "is empty; write the response, or null where there is none.")
    if offsets is not None and rewards_field is None and not logprobs:
        raise UnreadField(f"{side}_token_offsets", f"needs `{side}_token_rewards` beside it.")
    if offsets is None:
        row |= logprobs
        logprobs = {}
    tracks = {name: _token_rewards(values, name) for name, values in logprobs.items()}
    token_rewards = None if rewards_field is None else _token_rewards(rewards, rewards_field)
    given = {} if rewards_field is None or token_rewards is None else {rewards_field: token_rewards}
    counts = {name: len(values) for name, values in {**given, **tracks}.items()}
    return Response(
        text,
        spans=None if spans is None else _spans(spans, len(text), f"{side}_spans"),
        token_rewards=token_rewards,
        token_offsets=None if offsets is None else _token_offsets(offsets, len(text), counts, side),
        logprobs=tracks.get(f"{side}_logprobs"),
        ref_logprobs=tracks.get(f"{side}_ref_logprobs"),
        turns=() if turns is None else _turns(turns, text, f"{side}_turns", is_conversation),
    )


def _take_logprobs(row: dict[str, Any], side: str) -> dict[str, Any]:
    """The log-probabilities by policy and reference, which leave the row, by their columns; of one alone
    nothing can be made, and it stays."""
    names = [f"{side}_{name}" for name in ("logprobs", "ref_logprobs")]
    return {name: row.pop(name) for name in names} if all(_is_list(row.get(name)) for name in names) else {}


def _offsets_of_tokens(row: dict[str, Any], side: str, text: str) -> list[list[int]] | None:
    """Where the tokens stand that the rewards came with, which leave the row; None where it names none.

    Raises UnreadField where they are not the text.
    """
    names = (f"{side}_tokens", f"{side}_response_tokens")
    field = next((name for name in names if row.get(name) is not None), names[0])
    tokens = row.get(field)
    if not isinstance(tokens, (list, tuple)) or not all(isinstance(token, str) for token in tokens):
        return None
    if "".join(tokens) != text:
        joined = "".join(tokens)
        at = next(
            (place for place, (one, other) in enumerate(zip(joined, text, strict=False)) if one != other),
            None,
        )
        at = min(len(joined), len(text)) if at is None else at
        raise UnreadField(
            field,
            f"are not the response: they differ from it at character {at} (`{joined[at : at + 10]}` instead "
            f"of `{text[at : at + 10]}`); write tokens that joined give the text, or the places of each.",
        )
    del row[field]
    ends = list(itertools.accumulate(map(len, tokens)))
    return [[end - len(token), end] for token, end in zip(tokens, ends, strict=True)]


def annotation_columns(response: Response, side: str) -> dict[str, Any]:
    """The columns that `take_response` reads back: plain JSON values, without those that say nothing."""
    columns: dict[str, Any] = {}
    if response.spans is not None:
        columns[f"{side}_spans"] = [_span_value(span) for span in response.spans]
    if response.token_rewards is not None:
        columns[f"{side}_token_rewards"] = [None if r != r else r for r in response.token_rewards]
    if response.token_offsets is not None:
        columns[f"{side}_token_offsets"] = [list(offset) for offset in response.token_offsets]
    for name in ("logprobs", "ref_logprobs"):
        if (values := getattr(response, name)) is not None:
            columns[f"{side}_{name}"] = [None if value != value else value for value in values]
    if response.turns:
        columns[f"{side}_turns"] = [turn.as_row() for turn in response.turns]
    return columns


def span_value(label: str) -> float | None:
    """What a label says of the words that it marks: +1 praise, -1 blame, None for the neighbour of a gap."""
    if label.endswith("_adjacent"):
        return None
    return 1.0 if label.casefold() in PRAISE else -1.0


def _turns(value: Any, text: str, field: str, is_conversation: bool) -> tuple[Message, ...]:
    if not _is_list(value) or len(value) != 1 or not is_conversation:
        raise UnreadField(field, "must be a list of one message, beside a prompt that is a list.")
    turns = messages_of(list(value), field)
    if text_of(turns) != text:
        raise UnreadField(
            field, f"are not what `{field.removesuffix('_turns')}` says; write that as messages."
        )
    return turns


def _spans(value: Any, length: int, field: str) -> tuple[Span, ...]:
    if not _is_list(value):
        raise UnreadField(field, "must be a list of [start, end, label], or null where nobody annotated.")
    return tuple(_span(item, length, f"{field}[{index}]") for index, item in enumerate(value))


def _span(item: Any, length: int, field: str) -> Span:
    if _is_list(item):
        given = list(item)
    elif isinstance(item, Mapping):
        given = [
            item.get("start"),
            item.get("end"),
            item.get("label"),
            *([item["value"]] if "value" in item else []),
        ]
    else:
        given = []
    if (
        len(given) not in (3, 4)
        or not isinstance(given[2], str)
        or not 0 < len(given[2]) <= MAX_LABEL_CHARACTERS
    ):
        raise UnreadField(
            field, 'must be [start, end, label] or {"start", "end", "label"}, the label a string.'
        )
    start, end = _range(given[0], given[1], length, field)
    if start == end:
        raise UnreadField(
            field, f"marks nothing ({start} to {end}); `end` is exclusive and greater than `start`."
        )
    if len(given) == 3:
        return Span(start, end, given[2], span_value(given[2]))
    value = given[3]
    if value is not None and not _is_finite(value):
        raise UnreadField(field, "has a value that is no number; write +1 for praise, -1 for blame, or null.")
    return Span(start, end, given[2], None if value is None else float(value))


def _range(start: Any, end: Any, length: int, field: str) -> tuple[int, int]:
    if not (_is_whole(start) and _is_whole(end)):
        raise UnreadField(
            field, "must have whole numbers as start and end: positions of Unicode code points."
        )
    if not 0 <= start <= end <= length:
        raise UnreadField(
            field,
            f"runs from {start} to {end}, but the response has {length} characters; count Unicode code "
            "points (not bytes) from 0.",
        )
    return int(start), int(end)


def _token_rewards(value: Any, field: str) -> tuple[float, ...]:
    if not _is_list(value) or not value:
        raise UnreadField(
            field, "must be a list of numbers, one a token, with null where a reward is missing."
        )
    return tuple(_token_reward(item, f"{field}[{index}]") for index, item in enumerate(value))


def _token_reward(item: Any, field: str) -> float:
    if item is None:
        return math.nan
    if not isinstance(item, Real) or isinstance(item, bool):
        raise UnreadField(field, "is not a number; write a number, or null where the reward is missing.")
    try:
        number = float(item)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise UnreadField(field, "is infinite; write a finite number, or null where the reward is missing.")
    return number


def _token_offsets(
    value: Any, length: int, counts: Mapping[str, int], side: str
) -> tuple[tuple[int, int], ...]:
    """Offsets, of which there must be one for each value of every column that `counts` counts."""
    field = f"{side}_token_offsets"
    for name, tokens in counts.items():
        if not _is_list(value) or len(value) != tokens:
            given = len(value) if _is_list(value) else 0
            raise UnreadField(
                field,
                f"has {given} entries for {tokens} values of `{name}`; write one [start, end], or one token, "
                "for each.",
            )
    offsets: list[tuple[int, int]] = []
    for index, item in enumerate(value):
        here = f"{field}[{index}]"
        if not _is_list(item) or len(item) != 2:
            raise UnreadField(here, "must be [start, end].")
        offset = _range(item[0], item[1], length, here)
        if offsets and offset[0] < offsets[-1][0]:
            raise UnreadField(
                here, "starts before the one in front of it; write the offsets in reading order."
            )
        offsets.append(offset)
    return tuple(offsets)


def _is_list(value: Any) -> bool:
    # Asking an abstract class takes ten times as long as asking for the type that nearly all values have.
    return type(value) is list or (isinstance(value, Sequence) and not isinstance(value, (str, bytes)))


def _is_whole(value: Any) -> bool:
    return type(value) is int or (isinstance(value, Integral) and not isinstance(value, bool))


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _span_value(span: Span) -> list[Any]:
    written: list[Any] = [span.start, span.end, span.label]
    return written if span.value == span_value(span.label) else [*written, span.value]
