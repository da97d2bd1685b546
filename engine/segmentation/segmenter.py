"""What a segmenter is: its fields, what it reads, where its signal comes from, and its cut; and all of them.

A file of `engine/segmentation/segmenters` declares one, and one of yours does just the same:

    class Every(SegmenterFields):
        \"""A segment every `count` tokens.\"""

        name: Literal["every"] = "every"
        count: int = Field(4, ge=1, title="Tokens a segment")
        \"""How many tokens a segment has.\"""

    def cuts(rows: Rows, fields: Every) -> Cuts: ...

    SEGMENTERS.register(Segmenter(Every, "Every few tokens", cuts))

Requests, forms, links, the command line and the OpenAPI are made of what is registered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Bool, Int8

from engine.errors import RequestError
from engine.fields import DeclaredField, StrictModel, declared_fields
from engine.registry import Registry
from engine.segmentation.rows import Rows

Cuts: TypeAlias = Bool[np.ndarray, " tokens"]
"""True where a segment starts; every row's first token is a cut."""
Reads = Literal["text", "offsets", "entropies"]
SignalFrom = Literal["segmenter", "reward", "preference"]


class Turns(NamedTuple):
    """What a segmenter gives that has a signal of its own: it cuts where the signal turns."""

    signal: Int8[np.ndarray, " tokens"]
    """+1, -1, or 0 where nothing is said, at every token."""
    cuts: Cuts


class SegmenterFields(StrictModel):
    """What a segmenter may be told. Its docstring is the sentence that people read of the segmenter."""

    name: str

    @property
    def kind(self) -> Segmenter[Any]:
        """The segmenter whose fields these are."""
        return SEGMENTERS[self.name]


Fields = TypeVar("Fields", bound=SegmenterFields)


@dataclass(frozen=True, slots=True)
class Segmenter(Generic[Fields]):
    """A rule that cuts responses."""

    fields: type[Fields]
    title: str
    """What people call it in a list."""
    cuts: Callable[[Rows, Fields], Cuts | Turns]
    """Gives `Turns` where the signal is the segmenter's own. May count on what it reads to be there."""
    reads: tuple[Reads, ...] = ()
    """What it asks for besides rewards. Texts are of use with offsets only, and so are asked for together."""
    signal: SignalFrom = "reward"
    """Where a segment's signal comes from: the segmenter itself, the sign of the segment's reward, or the
    preference, so that every segment agrees with it."""
    compiles: tuple[Fields, ...] = ()
    """Fields with which it calls each of its compiled loops, for a start that wants them all compiled."""

    @property
    def name(self) -> str:
        return str(self.fields.model_fields["name"].default)

    @property
    def sentence(self) -> str:
        """What it does: the first sentence of its fields' docstring."""
        return " ".join((self.fields.__doc__ or "").partition("\n\n")[0].split())

    @property
    def reads_text(self) -> bool:
        return "text" in self.reads

    @property
    def reads_entropies(self) -> bool:
        return "entropies" in self.reads

    def lacks(self, *, has_text: bool, has_entropies: bool) -> str:
        """What it reads and a response does not have, as a sentence; '' where nothing is missing."""
        if self.reads_text and not has_text:
            return f"The `{self.name}` segmenter needs `text` and `offsets`."
        if self.reads_entropies and not has_entropies:
            return f"The `{self.name}` segmenter needs `entropies`, one a token."
        return ""

    def cut(self, rows: Rows, fields: Fields) -> Turns:
        """The rows, cut. The signal is still unwritten where it is not the segmenter's own.

        Raises RequestError where the rows lack what the segmenter reads.
        """
        lacking = self.lacks(
            has_text=rows.texts is not None and rows.offsets is not None,
            has_entropies=rows.entropies is not None,
        )
        if lacking:
            raise RequestError(lacking)
        found = self.cuts(rows, fields)
        return found if isinstance(found, Turns) else Turns(np.empty(rows.tokens, dtype=np.int8), found)


SEGMENTERS: Registry[Segmenter[Any]] = Registry("segmenters")
"""All segmenters by name; `engine.segmentation.segmenters` fills it."""


@dataclass(slots=True)
class SharedField:
    """A field of segmenters. Segmenters whose fields have one name share one control and one option."""

    declared: DeclaredField
    """As the first of them declares it."""
    segmenters: list[str] = field(default_factory=list)
    """Those that have it."""
    is_main: bool = False
    """Whether it is the first field of one of them: what one changes before anything else."""


def shared_fields() -> dict[str, SharedField]:
    """The fields of all registered segmenters by name."""
    found: dict[str, SharedField] = {}
    for segmenter in SEGMENTERS.values():
        own = [one for one in declared_fields(segmenter.fields) if one.path != "name"]
        for place, declared in enumerate(own):
            shared = found.setdefault(declared.path, SharedField(declared))
            shared.segmenters.append(segmenter.name)
            shared.is_main = shared.is_main or place == 0
    return found
