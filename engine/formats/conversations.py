"""Messages as people write them, in prompts and in responses: lists of `{"role", "content"}`.

What else chat templates write of a message comes along (`reasoning_content`, `tool_calls`, ...). A key that
none knows, and content that is no text, refuse the row by name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from engine.formats.json_text import parse_json
from engine.formats.registry import UnreadField
from engine.turns import OTHERS
from engine.types import Message

Prompt = str | tuple[Message, ...]

_COLUMNS = ("prompt", "chosen", "rejected", "response", "completion")
MEDIA = ("image", "images", "video", "videos", "audio", "audios")
NOT_GIVEN = ("chat_template_kwargs", "documents")
_BEGINS_LIKE_MESSAGES = re.compile(r"""\s*(?:array\()?\[\s*\{\s*(['"])[a-z_]+\1\s*:""")
_KEYS_OF_MESSAGES = re.compile(r"""(['"])(role|content|tool_calls)\1\s*:""")


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
    others = {
        str(name): _other(str(name), value, f"{field}.{name}")
        for name, value in item.items()
        if name not in ("role", "content") and value is not None and value not in ([], {}, "")
    }
    if content is None and "tool_calls" in others:
        content = ""
    return Message(role, _content(content, f"{field}.content"), others)


def _content(value: Any, field: str) -> str:
    """A message's text, also where it comes in parts that are text."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise UnreadField(field, f"is {kind_of(value)}; write the message as a string.")
    return "".join(_part(part, f"{field}[{index}]") for index, part in enumerate(value))


def _part(part: Any, field: str) -> str:
    if not isinstance(part, Mapping):
        raise UnreadField(field, f'is {kind_of(part)}; write {{"type": "text", "text": ...}}.')
    kind, text = part.get("type"), part.get("text")
    if kind != "text":
        raise UnreadField(
            field, f"is of the type `{kind}`, which cannot be read: models are given text alone."
        )
    more = [name for name, value in part.items() if name not in ("type", "text") and value is not None]
    if more:
        raise UnreadField(f"{field}.{more[0]}", "cannot be read: models are given text alone; remove it.")
    if not isinstance(text, str):
        raise UnreadField(f"{field}.text", f"is {kind_of(text)}; write a string.")
    return text


def _other(name: str, value: Any, field: str) -> Any:
    """What a message has besides role and content. Raises UnreadField."""
    if name not in OTHERS:
        raise UnreadField(
            field,
            "is not read: besides `role` and `content` a message may have "
            f"{', '.join(f'`{one}`' for one in OTHERS)}; remove it, or make it a column of its own.",
        )
    if name == "tools":
        return tools_of(value, field)
    if name == "tool_calls":
        if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
            raise UnreadField(
                field, f"is {kind_of(value)}; write a list of objects, or the call as text in `content`."
            )
    elif not isinstance(value, str):
        raise UnreadField(field, f"is {kind_of(value)}; write a string.")
    return value


# ------------------------------------------------------------------------------------ what stands beside them


def tools_of(value: Any, field: str) -> list[Any]:
    """The tools of a row, which may be JSON in a text. Raises UnreadField."""
    try:
        listed = parse_json(value) if isinstance(value, str) else value
        tools = [parse_json(one) if isinstance(one, str) else one for one in listed]
    except (TypeError, ValueError):
        raise UnreadField(field, "holds no tools; write a list of objects.") from None
    if not isinstance(listed, list) or not all(isinstance(one, Mapping) for one in tools):
        raise UnreadField(field, "holds no tools; write a list of objects.")
    return tools


def with_context(prompt: Prompt, row: dict[str, Any]) -> Prompt:
    """The prompt with the columns that go to the chat template with it, `system` and `tools`, which are taken
    out of the row. Raises UnreadField for one that no template would be given."""
    for column in MEDIA:
        if isinstance(row.get(column), (list, Mapping, bytes)) and row[column]:
            raise UnreadField(column, "cannot be read: models are given text alone; leave such rows out.")
    for column in NOT_GIVEN:
        if row.get(column) not in (None, "", [], {}):
            raise UnreadField(
                column, "is not given to chat templates; remove the column, or leave such rows out."
            )
    system, tools = row.pop("system", None), row.pop("tools", None)
    tools = tools_of(tools, "tools") if tools not in (None, "") else []
    if system is not None and not isinstance(system, str):
        raise UnreadField("system", f"is {kind_of(system)}; write a string.")
    for column, value in (("system", system), ("tools", tools)):
        if value and isinstance(prompt, str):
            raise UnreadField(
                column,
                "needs a chat template, and a prompt that is text goes through none; write `prompt` as a "
                "list of messages.",
            )
    if isinstance(prompt, str):
        return prompt
    if system and prompt[0].role != "system":
        prompt = (Message("system", system), *prompt)
    elif system and prompt[0].content != system:
        raise UnreadField(
            "system", "and the first message, which is another system message, disagree; keep one."
        )
    if not tools:
        return prompt
    first = prompt[0]
    if first.others.get("tools", tools) != tools:
        raise UnreadField("tools", "and those of the first message disagree; keep one of them.")
    return (replace(first, others={**first.others, "tools": tools}), *prompt[1:])


# -------------------------------------------------------------------------------- conversations that are text


def read_conversations(row: dict[str, Any]) -> None:
    """Puts messages in the place of text that is a list of them: JSON, or what Python prints of one, as
    pandas writes columns of lists. Raises UnreadField where such text cannot be read."""
    for column in _COLUMNS:
        value = row.get(column)
        if isinstance(value, str) and _BEGINS_LIKE_MESSAGES.match(value):
            row[column] = _conversation(value, column)


def _conversation(text: str, column: str) -> Any:
    """The messages that a text holds, or the text itself where it is something else."""
    keys = {found[1] for found in _KEYS_OF_MESSAGES.findall(text)}
    if "role" not in keys or len(keys) == 1:
        return text
    value = None
    for parse in (parse_json, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        break
    if value is None:
        raise UnreadField(
            column,
            "looks like a list of messages that was printed as text, and cannot be read as one; write it as "
            "JSON.",
        )
    if not isinstance(value, list) or not all(isinstance(one, dict) and "role" in one for one in value):
        return text
    return value if all("content" in one or "tool_calls" in one for one in value) else text


# --------------------------------------------------------------------------------------------------- columns


def sides_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns `chosen` and `rejected`, each a text, a list, or None. Raises UnreadField."""
    sides = {side: row.get(side) for side in ("chosen", "rejected")}
    for side, value in sides.items():
        if value is not None and not isinstance(value, (str, list)):
            raise UnreadField(side, f"is {kind_of(value)}; write a string, or a list of messages.")
    return sides


def kind_of(value: Any) -> str:
    """What a JSON value is, in a sentence."""
    names = {type(None): "null", bool: "true or false", int: "a number", float: "a number", str: "a string"}
    return names.get(type(value), "a list" if isinstance(value, list) else "an object")
