"""Messages as people write them, in prompts and in responses: lists of `{"role", "content"}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.formats.pairs import Prompt
from engine.formats.registry import UnreadField
from engine.types import Message


def prompt_of(value: Any) -> Prompt | None:
    """The prompt of a column, as text or as messages; None where it holds none. Raises UnreadField."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return messages_of(value, "prompt")
    raise UnreadField("prompt", f"is {kind_of(value)}; write a string, or a list of messages.")


def messages_of(value: list[Any], field: str) -> tuple[Message, ...]:
    """The messages of a list. Raises UnreadField with the place inside `field`."""
    return tuple(_message(item, f"{field}[{index}]") for index, item in enumerate(value))


def _message(item: Any, field: str) -> Message:
    if not isinstance(item, Mapping):
        raise UnreadField(
            field, f'is {kind_of(item)}; a message is an object {{"role": ..., "content": ...}}.'
        )
    role, content = item.get("role"), item.get("content")
    if not isinstance(role, str) or not role:
        raise UnreadField(f"{field}.role", "is missing; name who speaks, for example `user` or `assistant`.")
    if item.get("tool_calls"):
        raise UnreadField(f"{field}.tool_calls", "cannot be read; write the call as text in `content`.")
    if not isinstance(content, str):
        raise UnreadField(f"{field}.content", f"is {kind_of(content)}; write the message as a string.")
    return Message(role, content)


def sides_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns `chosen` and `rejected`, each a text, a list, or None. Raises UnreadField for others."""
    sides = {side: row.get(side) for side in ("chosen", "rejected")}
    for side, value in sides.items():
        if value is not None and not isinstance(value, (str, list)):
            raise UnreadField(side, f"is {kind_of(value)}; write a string, or a list of messages.")
    return sides


def kind_of(value: Any) -> str:
    """What a JSON value is, in a sentence."""
    names = {type(None): "null", bool: "true or false", int: "a number", float: "a number", str: "a string"}
    return names.get(type(value), "a list" if isinstance(value, list) else "an object")
