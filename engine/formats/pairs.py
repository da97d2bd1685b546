"""A PreferencePair of a row whose prompt and responses are known, and the one row that we write of a pair.

What the columns of a pair have in common, whatever format its row has: the key, annotations, and `meta`,
which keeps everything else. `pair_to_row` and `rows.row_to_pair` lose nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, time
from numbers import Integral
from typing import Any

from engine.formats.annotations import annotation_columns, take_response
from engine.formats.conversations import Prompt, with_context
from engine.formats.registry import UnreadField
from engine.types import PreferencePair, Response

MAX_META_BYTES = 256 * 2**10
MAX_KEY_CHARACTERS = 512
_ENCODER = json.JSONEncoder(ensure_ascii=False)


def pair_of(
    row: dict[str, Any], key: str, prompt: Prompt, chosen: str | None, rejected: str | None
) -> PreferencePair:
    """The pair of a prompt and its answers, with what the other columns of the row say; the row is taken
    apart.

    Raises UnreadField.
    """
    for column in ("prompt", "chosen", "rejected"):
        row.pop(column, None)
    prompt = with_context(prompt, row)
    if row.get("spans") is not None:
        raise UnreadField("spans", "does not say of which side; write `chosen_spans` and `rejected_spans`.")
    return PreferencePair(
        key,
        prompt,
        take_response(row, "chosen", chosen, is_conversation=not isinstance(prompt, str)),
        take_response(row, "rejected", rejected, is_conversation=not isinstance(prompt, str)),
        _meta(row),
    )


def pair_to_row(pair: PreferencePair) -> dict[str, Any]:
    """The canonical row: plain JSON values, missing things left out or null, everything else in `meta`."""
    row: dict[str, Any] = {"id": pair.key, "prompt": _prompt_value(pair.prompt)}
    for side in ("chosen", "rejected"):
        response: Response | None = getattr(pair, side)
        row[side] = None if response is None else response.text
    for side, response in pair.sides():
        row |= annotation_columns(response, side)
    if pair.meta:
        row["meta"] = dict(pair.meta)
    return row


def take_key(row: dict[str, Any], number: str) -> str:
    """The key that the row names itself by, which is taken out of it; else `number`. Raises UnreadField."""
    for field in ("id", "key"):
        value = row.pop(field, None)
        if value is None:
            continue
        if isinstance(value, Integral) and not isinstance(value, bool):
            value = str(int(value))
        if not isinstance(value, str) or not 0 < len(value) <= MAX_KEY_CHARACTERS:
            raise UnreadField(
                field, f"must be a whole number or a string of 1 to {MAX_KEY_CHARACTERS} characters."
            )
        return value
    return number


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
    size = len(_ENCODER.encode(meta).encode()) if meta else 0
    if size > MAX_META_BYTES:
        raise UnreadField(
            "meta",
            f"and the columns that are not known hold {size:,} bytes; the limit is {MAX_META_BYTES:,}: "
            "remove the largest of them.",
        )
    return meta


def _plain(value: Any) -> Any:
    """A JSON value; what JSON cannot hold (dates, decimals) as text, and NaN or infinity as null."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return str(value)


def _prompt_value(prompt: Prompt) -> str | list[dict[str, Any]]:
    return prompt if isinstance(prompt, str) else [message.as_row() for message in prompt]


def about_identical(count: int) -> str:
    """What is said of pairs whose sides say the same."""
    pairs = "1 pair, which prefers" if count == 1 else f"{count:,} pairs, which prefer"
    return f"Chosen and rejected say the same in {pairs} nothing."
