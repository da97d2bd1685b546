"""The prompt of a pair as messages, whether the data brought a text or a conversation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.db.tables import Pair
from engine.turns import text_of
from engine.types import Message


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the prompt."""

    role: str
    text: str


def turns_of(pair: Pair) -> list[Turn]:
    """The messages of a pair's prompt; none where it has no prompt."""
    if pair.messages is None:
        return [Turn("prompt", pair.prompt)] if pair.prompt else []
    return [turn for message in pair.messages for turn in _turns(message)]


def _turns(message: Mapping[str, Any]) -> list[Turn]:
    """A message with its thoughts and calls in its text, and the tools of a row as a turn before it."""
    others = {name: value for name, value in message.items() if name not in ("role", "content")}
    role = str(message["role"])
    said = text_of([Message(role, str(message["content"]), others)])
    tools = others.get("tools")
    before = [Turn("tools", json.dumps(tools, ensure_ascii=False, indent=2))] if tools else []
    return [*before, Turn(f"{role} {others['name']}" if "name" in others else role, said)]
