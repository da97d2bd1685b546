"""One row as people write it, to a PreferencePair, and a pair to the one row that we write.

Knows the columns and their rules; knows no file. `pair_to_row` and `row_to_pair` lose nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, time
from numbers import Integral, Real
from typing import Any, NamedTuple

from engine.errors import RowError
from engine.formats.conversations import Prompt, Refusal, turns
from engine.formats.streams import MAX_ROW_BYTES
from engine.types import PreferencePair, Response, Span

MAX_META_BYTES = 256 * 2**10
MAX_KEY_CHARACTERS = 512
MAX_LABEL_CHARACTERS = 512

PRAISE = frozenset(
    {"fix", "fixed", "right", "correct", "corrected", "correction", "good", "true", "positive"}
)
"""Labels that praise what they mark: value +1."""

_RESPONSE_COLUMNS = ("response", "completion")


class NumberedRow(NamedTuple):
    """A row of any file, before its columns are looked at."""

    line: int
    """The line where it starts, from 1; in files without lines the row's number."""
    content: Mapping[str, Any] | RowError
    file: str | None = None
    """Which of several files it is of, where the pairs come from a folder."""


def row_too_large(line: int) -> RowError:
    """The refusal of a row above MAX_ROW_BYTES."""
    return RowError(line, f"The row is larger than {MAX_ROW_BYTES // 2**20} MiB; shorten it or split it.")


def row_to_pair(row: Mapping[str, Any], line: int = 1, number: int | None = None) -> PreferencePair:
    """The pair that a row holds. `number` names rows without `id` or `key`; None: `line` does.

    Raises RowError with the line, the field and what to do.
    """
    try:
        refuse_unstorable_text(row)
        return _pair(dict(row), str(line if number is None else number))
    except Refusal as refusal:
        subject = "The row" if refusal.field is None else f"`{refusal.field}`"
        raise RowError(line, f"{subject} {refusal.reason}", refusal.field) from None


def pair_to_row(pair: PreferencePair) -> dict[str, Any]:
    """The canonical row: plain JSON values, missing things left out or null, everything else in `meta`."""
    row: dict[str, Any] = {"id": pair.key, "prompt": _prompt_value(pair.prompt)}
    for side in ("chosen", "rejected"):
        response: Response | None = getattr(pair, side)
        row[side] = None if response is None else response.text
    for side, response in pair.sides():
        if response.spans is not None:
            row[f"{side}_spans"] = [_span_value(span) for span in response.spans]
        if response.token_rewards is not None:
            row[f"{side}_token_rewards"] = [None if r != r else r for r in response.token_rewards]
        if response.token_offsets is not None:
            row[f"{side}_token_offsets"] = [list(offset) for offset in response.token_offsets]
    if pair.meta:
        row["meta"] = dict(pair.meta)
    return row


def span_value(label: str) -> float | None:
    """What a label says of the words that it marks: +1 praise, -1 blame, None for the neighbour of a gap."""
    if label.endswith("_adjacent"):
        return None
    return 1.0 if label.casefold() in PRAISE else -1.0


# ---------------------------------------------------------------------------------------------- row to pair


def _pair(row: dict[str, Any], number: str) -> PreferencePair:
    key = _key(row, number)
    _name_the_side(row)
    if row.get("chosen") is None and row.get("rejected") is None:
        raise Refusal(
            None, "has no response; give it `chosen` and `rejected`, one of them, or `response` with `label`."
        )
    prompt, chosen, rejected = turns(
        row.pop("prompt", None), row.pop("chosen", None), row.pop("rejected", None)
    )
    return PreferencePair(
        key, prompt, _response(row, "chosen", chosen), _response(row, "rejected", rejected), _meta(row)
    )


def _key(row: dict[str, Any], number: str) -> str:
    for field in ("id", "key"):
        value = row.pop(field, None)
        if value is None:
            continue
        if isinstance(value, Integral) and not isinstance(value, bool):
            value = str(int(value))
        if not isinstance(value, str) or not 0 < len(value) <= MAX_KEY_CHARACTERS:
            raise Refusal(
                field, f"must be a whole number or a string of 1 to {MAX_KEY_CHARACTERS} characters."
            )
        return value
    return number


def _name_the_side(row: dict[str, Any]) -> None:
    """Turns the columns of a single response into those of the side that its label says."""
    sided = row.get("chosen") is not None or row.get("rejected") is not None
    column = next((name for name in _RESPONSE_COLUMNS if row.get(name) is not None), None)
    if sided or column is None:
        if sided and row.get("spans") is not None:
            raise Refusal("spans", "does not say of which side; write `chosen_spans` and `rejected_spans`.")
        return
    side = "chosen" if _label(row.pop("label", None)) else "rejected"
    row[side] = row.pop(column)
    for name in ("spans", "token_reward", "token_rewards", "token_offsets"):
        if name in row:
            row[f"{side}_{name}"] = row.pop(name)


def _label(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, bool) or (isinstance(value, Integral) and value in (0, 1)):
        return bool(value)
    raise Refusal("label", "must be true (a chosen response) or false (a rejected one).")


def _response(row: dict[str, Any], side: str, text: str | None) -> Response | None:
    spans = row.pop(f"{side}_spans", None)
    rewards_field = next(
        (name for name in (f"{side}_token_rewards", f"{side}_token_reward") if row.get(name) is not None),
        None,
    )
    rewards = None if rewards_field is None else row.pop(rewards_field)
    offsets = row.pop(f"{side}_token_offsets", None)
    for alias in (f"{side}_token_rewards", f"{side}_token_reward"):
        if alias in row and row[alias] is None:
            del row[alias]
    if text is None:
        for field, value in ((f"{side}_spans", spans), (rewards_field, rewards)):
            if value:
                raise Refusal(field, f"is given, but `{side}` is null; add the response or remove this.")
        return None
    if not text:
        raise Refusal(side, "is empty; write the response, or null where there is none.")
    if offsets is not None and rewards_field is None:
        raise Refusal(f"{side}_token_offsets", f"needs `{side}_token_rewards` beside it.")
    token_rewards = None if rewards_field is None else _token_rewards(rewards, rewards_field)
    return Response(
        text,
        None if spans is None else _spans(spans, len(text), f"{side}_spans"),
        token_rewards,
        None
        if offsets is None or token_rewards is None
        else _token_offsets(offsets, len(text), len(token_rewards), f"{side}_token_offsets"),
    )


# --------------------------------------------------------------------------------- spans and token rewards


def _spans(value: Any, length: int, field: str) -> tuple[Span, ...]:
    if not _is_list(value):
        raise Refusal(field, "must be a list of [start, end, label], or null where nobody annotated.")
    return tuple(_span(item, length, f"{field}[{index}]") for index, item in enumerate(value))


def _span(item: Any, length: int, field: str) -> Span:
    if isinstance(item, Mapping):
        given = [
            item.get("start"),
            item.get("end"),
            item.get("label"),
            *([item["value"]] if "value" in item else []),
        ]
    elif _is_list(item):
        given = list(item)
    else:
        given = []
    if (
        len(given) not in (3, 4)
        or not isinstance(given[2], str)
        or not 0 < len(given[2]) <= MAX_LABEL_CHARACTERS
    ):
        raise Refusal(field, 'must be [start, end, label] or {"start", "end", "label"}, the label a string.')
    start, end = _range(given[0], given[1], length, field)
    if start == end:
        raise Refusal(
            field, f"marks nothing ({start} to {end}); `end` is exclusive and greater than `start`."
        )
    if len(given) == 3:
        return Span(start, end, given[2], span_value(given[2]))
    value = given[3]
    if value is not None and not _is_finite(value):
        raise Refusal(field, "has a value that is no number; write +1 for praise, -1 for blame, or null.")
    return Span(start, end, given[2], None if value is None else float(value))


def _range(start: Any, end: Any, length: int, field: str) -> tuple[int, int]:
    if not all(isinstance(value, Integral) and not isinstance(value, bool) for value in (start, end)):
        raise Refusal(field, "must have whole numbers as start and end: positions of Unicode code points.")
    if not 0 <= start <= end <= length:
        raise Refusal(
            field,
            f"runs from {start} to {end}, but the response has {length} characters; count Unicode code "
            "points (not bytes) from 0.",
        )
    return int(start), int(end)


def _token_rewards(value: Any, field: str) -> tuple[float, ...]:
    if not _is_list(value) or not value:
        raise Refusal(field, "must be a list of numbers, one a token, with null where a reward is missing.")
    return tuple(_token_reward(item, f"{field}[{index}]") for index, item in enumerate(value))


def _token_reward(item: Any, field: str) -> float:
    if item is None:
        return math.nan
    if not isinstance(item, Real) or isinstance(item, bool):
        raise Refusal(field, "is not a number; write a number, or null where the reward is missing.")
    try:
        number = float(item)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise Refusal(field, "is infinite; write a finite number, or null where the reward is missing.")
    return number


def _token_offsets(value: Any, length: int, tokens: int, field: str) -> tuple[tuple[int, int], ...]:
    if not _is_list(value) or len(value) != tokens:
        given = len(value) if _is_list(value) else 0
        raise Refusal(
            field, f"has {given} entries for {tokens} token rewards; write one [start, end] for each."
        )
    offsets: list[tuple[int, int]] = []
    for index, item in enumerate(value):
        here = f"{field}[{index}]"
        if not _is_list(item) or len(item) != 2:
            raise Refusal(here, "must be [start, end].")
        offset = _range(item[0], item[1], length, here)
        if offsets and offset[0] < offsets[-1][0]:
            raise Refusal(here, "starts before the one in front of it; write the offsets in reading order.")
        offsets.append(offset)
    return tuple(offsets)


# --------------------------------------------------------------------------------- everything else: meta


def _meta(row: dict[str, Any]) -> dict[str, Any]:
    """Unknown columns and the entries of `meta`; where both have a name, the entry becomes `meta.NAME`."""
    inner = row.pop("meta", None)
    meta = {str(name): _plain(value) for name, value in row.items()}
    if isinstance(inner, Mapping):
        for name, value in inner.items():
            meta[f"meta.{name}" if name in meta else str(name)] = _plain(value)
    elif inner is not None:
        meta["meta"] = _plain(inner)
    size = len(json.dumps(meta, ensure_ascii=False).encode()) if meta else 0
    if size > MAX_META_BYTES:
        raise Refusal(
            "meta",
            f"and the columns that are not known hold {size:,} bytes; the limit is {MAX_META_BYTES:,}: "
            "remove the largest of them.",
        )
    return meta


def _plain(value: Any) -> Any:
    """A JSON value; what JSON cannot hold (dates, decimals) as text, and NaN or infinity as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return str(value)


# ------------------------------------------------------------------------------------------------- helpers


def refuse_unstorable_text(value: Any, field: str | None = None) -> None:
    """Refuses NUL and lone surrogates anywhere in a row: no data base and no UTF-8 file can hold them."""
    if isinstance(value, str):
        if "\x00" in value:
            raise Refusal(field, "contains the character U+0000, which cannot be stored; remove it.")
        if not value.isascii() and not _is_unicode(value):
            raise Refusal(
                field, "contains half of a surrogate pair or bytes that are not UTF-8; write valid Unicode."
            )
    elif isinstance(value, Mapping):
        for name, item in value.items():
            inside = str(name) if field is None else f"{field}.{name}"
            if isinstance(name, str) and (not _is_unicode(name) or "\x00" in name):
                raise Refusal(field, "has a column name that cannot be stored; rename it.")
            refuse_unstorable_text(item, inside)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if not isinstance(item, (int, float)):
                refuse_unstorable_text(item, f"{field}[{index}]")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _prompt_value(prompt: Prompt) -> str | list[dict[str, str]]:
    if isinstance(prompt, str):
        return prompt
    return [{"role": message.role, "content": message.content} for message in prompt]


def _span_value(span: Span) -> list[Any]:
    written: list[Any] = [span.start, span.end, span.label]
    return written if span.value == span_value(span.label) else [*written, span.value]
