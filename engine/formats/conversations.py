"""Takes the prompt and the responses out of the shapes in which people write conversations.

A conversation is a list of `{"role", "content"}`; its last turn is the assistant's and is the response. The
turns before it are the prompt, whether the row says so in `prompt`, or only implies it because both sides
begin with the same turns (TRL calls that an implicit prompt).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from engine.types import Message

Prompt = str | tuple[Message, ...]

_TRANSCRIPT_TURN = "\n\nAssistant:"


class Refusal(Exception):
    """A field that cannot be read: becomes a RowError where the line is known."""

    def __init__(self, field: str | None, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(reason)


class Turns(NamedTuple):
    """One prompt and its one or two answers."""

    prompt: Prompt
    chosen: str | None
    rejected: str | None


def turns(prompt: Any, chosen: Any, rejected: Any) -> Turns:
    """Prompt and responses of a row; None where a side or the prompt is missing. Raises Refusal."""
    sides = {"chosen": chosen, "rejected": rejected}
    conversations = {
        side: _conversation(value, side) for side, value in sides.items() if isinstance(value, list)
    }
    for side, value in sides.items():
        if value is not None and not isinstance(value, (str, list)):
            raise Refusal(side, f"is {_kind(value)}; write a string, or a list of messages.")
    if conversations and any(isinstance(value, str) for value in sides.values()):
        raise Refusal(
            "chosen", "and `rejected` have different shapes; write both as strings or both as lists."
        )
    if conversations:
        whole = _prompt(prompt)
        return Turns(
            _prompt_of_conversations(whole, conversations),
            *(conversations[side][-1].content if side in conversations else None for side in sides),
        )
    if prompt is None:
        return _split_transcripts(chosen, rejected)
    return Turns(_required_prompt(prompt), chosen, rejected)


def _prompt(value: Any) -> Prompt | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return _messages(value, "prompt")
    raise Refusal("prompt", f"is {_kind(value)}; write a string, or a list of messages.")


def _required_prompt(value: Any) -> Prompt:
    prompt = _prompt(value)
    if prompt is None or prompt == ():
        raise Refusal("prompt", "is an empty conversation; give it at least one message.")
    return prompt


def _conversation(value: list[Any], side: str) -> tuple[Message, ...]:
    messages = _messages(value, side)
    if not messages or messages[-1].role != "assistant":
        raise Refusal(
            side, "does not end with a message of the role `assistant`, which would be the response."
        )
    return messages


def _messages(value: list[Any], field: str) -> tuple[Message, ...]:
    return tuple(_message(item, f"{field}[{index}]") for index, item in enumerate(value))


def _message(item: Any, field: str) -> Message:
    if not isinstance(item, Mapping):
        raise Refusal(field, f'is {_kind(item)}; a message is an object {{"role": ..., "content": ...}}.')
    role, content = item.get("role"), item.get("content")
    if not isinstance(role, str) or not role:
        raise Refusal(f"{field}.role", "is missing; name who speaks, for example `user` or `assistant`.")
    if item.get("tool_calls"):
        raise Refusal(f"{field}.tool_calls", "cannot be read; write the call as text in `content`.")
    if not isinstance(content, str):
        raise Refusal(f"{field}.content", f"is {_kind(content)}; write the message as a string.")
    return Message(role, content)


def _prompt_of_conversations(
    prompt: Prompt | None, conversations: Mapping[str, tuple[Message, ...]]
) -> tuple[Message, ...]:
    """The turns that both sides answer: those of `prompt`, and those that the sides share before the end."""
    before = {side: messages[:-1] for side, messages in conversations.items()}
    if len(set(before.values())) > 1:
        raise Refusal(
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
        raise Refusal("prompt", "is missing, and no turn stands before the response; add the prompt.")
    return found


def _named_turns(prompt: str, shared: tuple[Message, ...]) -> tuple[Message, ...]:
    """The shared turns when `prompt` merely repeats one of them, else the prompt as the user's turn."""
    if not shared:
        return (Message("user", prompt),)
    if any(message.content == prompt for message in shared):
        return shared
    raise Refusal("prompt", "is not one of the turns before the response; write it as a list of messages.")


def _split_transcripts(chosen: str | None, rejected: str | None) -> Turns:
    """Cuts transcripts as hh-rlhf writes them (`\\n\\nHuman: ...\\n\\nAssistant: ...`) at their last turn.

    Only where both sides agree up to there: a guess at a shared prefix could cut into a response.
    """
    texts = [text for text in (chosen, rejected) if text is not None]
    ends = {text.rfind(_TRANSCRIPT_TURN) for text in texts}
    end = ends.pop() + len(_TRANSCRIPT_TURN)
    if ends or end < len(_TRANSCRIPT_TURN) or len({text[:end] for text in texts}) > 1:
        raise Refusal("prompt", "is missing; add it (an empty string is allowed).")
    return Turns(
        texts[0][:end],
        None if chosen is None else chosen[end:],
        None if rejected is None else rejected[end:],
    )


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "true or false", int: "a number", float: "a number", str: "a string"}
    return names.get(type(value), "a list" if isinstance(value, list) else "an object")
