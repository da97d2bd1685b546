"""The prompt of a pair as messages, whether the data brought a text or a conversation."""

from __future__ import annotations

from dataclasses import dataclass

from app.db.tables import Pair


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the prompt."""

    role: str
    text: str


def turns_of(pair: Pair) -> list[Turn]:
    """The messages of a pair's prompt; none where it has no prompt."""
    if pair.messages is None:
        return [Turn("prompt", pair.prompt)] if pair.prompt else []
    return [Turn(str(message["role"]), str(message["content"])) for message in pair.messages]
