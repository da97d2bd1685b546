"""All run kinds: who imports this finds `RUN_KINDS` filled by every room of the services, and by others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from app.services.runs.kinds import RUN_KINDS as RUN_KINDS

RUN_KINDS.fill("app.services", nested=True)

KIND_NAMES = tuple(sorted(RUN_KINDS))
"""The names of all kinds, as lists of them are shown."""

if TYPE_CHECKING:
    RunKindName = str
else:
    RunKindName = Literal[KIND_NAMES]
    """A name of a run kind, for requests."""
