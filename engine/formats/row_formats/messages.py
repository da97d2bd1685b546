"""Conversations: `chosen` and `rejected` as lists of messages, of which the last is the response.

The turns before it are the prompt, whether the row says so in `prompt`, or only implies it because both sides
begin with the same turns (TRL calls that an implicit prompt).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.formats.conversations import Prompt, messages_of, prompt_of, sides_of
from engine.formats.pairs import pair_of
from engine.formats.registry import ROW_FORMATS, RowFormat, UnreadField
from engine.turns import text_of
from engine.types import Message, PreferencePair


def _matches(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("chosen"), list) or isinstance(row.get("rejected"), list)


def _read(row: dict[str, Any], key: str) -> PreferencePair:
    conversations = {
        side: _conversation(row[side], side)
        for side in ("chosen", "rejected")
        if isinstance(row.get(side), list)
    }
    if any(isinstance(value, str) for value in sides_of(row).values()):
        raise UnreadField(
            "chosen", "and `rejected` have different shapes; write both as strings or both as lists."
        )
    prompt = _prompt_of_conversations(prompt_of(row.get("prompt")), conversations)
    responses = {}
    for side, messages in conversations.items():
        responses[side] = text_of(messages[-1:])
        if messages[-1].others:
            _refuse_positions(row, side, next(iter(messages[-1].others)))
            row[f"{side}_turns"] = [messages[-1].as_row()]
    return pair_of(row, key, prompt, responses.get("chosen"), responses.get("rejected"))


def _refuse_positions(row: dict[str, Any], side: str, name: str) -> None:
    """Refuses positions in a response that is more than a text: nobody can tell what they count."""
    for column in (f"{side}_spans", f"{side}_token_offsets"):
        if row.get(column):
            raise UnreadField(
                column,
                f"has no place in a response with `{name}`; write the response as one text, or remove it.",
            )


def _conversation(value: list[Any], side: str) -> tuple[Message, ...]:
    messages = messages_of(value, side)
    if not messages or messages[-1].role != "assistant":
        raise UnreadField(
            side, "does not end with a message of the role `assistant`, which would be the response."
        )
    return messages


def _prompt_of_conversations(
    prompt: Prompt | None, conversations: Mapping[str, tuple[Message, ...]]
) -> tuple[Message, ...]:
    """The turns that both sides answer: those of `prompt`, and those that the sides share before the end."""
    before = {side: messages[:-1] for side, messages in conversations.items()}
    if len(set(before.values())) > 1:
        raise UnreadField(
            "rejected",
            "differs from `chosen` before the last turn; a pair is two answers to one conversation.",
        )
    shared = next(iter(before.values()))
    if prompt is None or prompt == ():
        found = shared
    elif isinstance(prompt, str):
        found = _named_turns(prompt, shared)
    elif shared[: len(prompt)] == prompt:
        found = shared
    else:
        found = prompt + shared
    if not found:
        raise UnreadField("prompt", "is missing, and no turn stands before the response; add the prompt.")
    return found


def _named_turns(prompt: str, shared: tuple[Message, ...]) -> tuple[Message, ...]:
    """The shared turns when `prompt` merely repeats one of them, else the prompt as the user's turn."""
    if not shared:
        return (Message("user", prompt),)
    if any(message.content == prompt for message in shared):
        return shared
    raise UnreadField(
        "prompt", "is not one of the turns before the response; write it as a list of messages."
    )


ROW_FORMATS.register(
    RowFormat(
        name="messages",
        of="pairs",
        description=(
            "`chosen` and `rejected` as lists of messages that end with the assistant's; `prompt` may be "
            "missing where both begin with the same turns."
        ),
        columns=("chosen", "rejected"),
        beside=("prompt",),
        matches=_matches,
        read=_read,
    )
)
