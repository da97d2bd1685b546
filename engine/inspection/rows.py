"""What would be read of a file or folder of preference pairs. Imports no torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from engine.errors import RowError
from engine.formats.chosen_by import ChosenBy
from engine.formats.pairs import about_identical, pair_to_row
from engine.formats.reading import file_type_of, read
from engine.formats.rows import format_of_row, row_to_pair
from engine.turns import text_of
from engine.types import Message, PreferencePair

MOST_REFUSED = 20
"""Refused rows that are named; all are counted."""


@dataclass(slots=True)
class RowsSeen:
    """A file of rows, as it would be read."""

    file_type: str
    """What people call the file's type: JSONL, CSV."""
    row_formats: Counter[str] = field(default_factory=Counter)
    """How many rows came in which row format, by its name in the registry."""
    columns: dict[str, bool] = field(default_factory=dict)
    """Columns that hold anything, in the order in which they came: whether they are read, or kept beside the
    pair as they are."""
    rows: int = 0
    """All, those that are refused with them."""
    refused: int = 0
    refusals: list[RowError] = field(default_factory=list)
    """The first `MOST_REFUSED` of them."""
    pairs: int = 0
    """Rows with a chosen and a rejected response; the others hold one response."""
    identical: int = 0
    """Pairs whose sides say the same, which prefer nothing."""
    labelled: int = 0
    """Rows with labelled spans."""
    rewarded: int = 0
    """Rows with token rewards of their own."""
    with_tools: int = 0
    """Rows whose prompt brings tools for the chat template."""
    left_out: list[str] = field(default_factory=list)
    """What the rule of preference left out, in sentences."""
    first: list[PreferencePair] = field(default_factory=list)

    @property
    def used(self) -> list[str]:
        """The columns that are read."""
        return [name for name, is_read in self.columns.items() if is_read]

    @property
    def left(self) -> list[str]:
        """The columns that are kept beside the pairs, and nothing reads."""
        return [name for name, is_read in self.columns.items() if not is_read]

    @property
    def odd(self) -> list[str]:
        """What a person would want to know before going on, in sentences."""
        alone = self.rows - self.refused - self.pairs
        told = [*self.left_out]
        if self.refused:
            told.append(f"{_rows(self.refused)} would be refused.")
        if self.identical:
            told.append(about_identical(self.identical))
        if alone:
            hold = "1 row holds" if alone == 1 else f"{alone:,} rows hold"
            told.append(f"{hold} one response, so that nothing can be compared there.")
        if len(self.row_formats) > 1:
            told.append(f"The rows come in several formats: {', '.join(self.row_formats)}.")
        if self.left:
            told.append(
                f"Nothing reads {', '.join(f'`{name}`' for name in self.left)}; kept beside the pairs."
            )
        return told

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> RowsSeen:
        """What `as_row` made, again."""
        return cls(
            row["file_type"],
            Counter(row["row_formats"]),
            dict.fromkeys(row["columns_read"], True) | dict.fromkeys(row["columns_left"], False),
            row["rows"],
            row["refused"],
            [RowError.from_row(one) for one in row["refusals"]],
            row["pairs"],
            row["identical_sides"],
            row["labelled"],
            row["with_token_rewards"],
            row["with_tools"],
            row["left_out"],
            [row_to_pair(one, canonical=True) for one in row["first_rows"]],
        )

    def as_row(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "file_type": self.file_type,
            "row_formats": dict(self.row_formats),
            "columns_read": self.used,
            "columns_left": self.left,
            "rows": self.rows,
            "refused": self.refused,
            "refusals": [one.as_row() for one in self.refusals],
            "pairs": self.pairs,
            "identical_sides": self.identical,
            "labelled": self.labelled,
            "with_token_rewards": self.rewarded,
            "with_tools": self.with_tools,
            "left_out": self.left_out,
            "odd": self.odd,
            "first_rows": [pair_to_row(pair) for pair in self.first],
        }


def inspect_rows(
    source: Path | BinaryIO,
    *,
    name: str | None = None,
    chosen_by: str | None = None,
    split: str | None = None,
    first: int = 3,
) -> RowsSeen:
    """Reads all of a file, a stream or a folder as an import does, and stores nothing.

    chosen_by: which of single, scored responses are preferred. split: which split of a folder is read.
    first: how many pairs are kept to be shown. Raises DataError where the whole is not what it claims to be,
    RequestError for a rule that is none, or a split of a file.
    """
    rule = None if chosen_by is None else ChosenBy.parse(chosen_by)
    seen = RowsSeen(file_type_of(source, name, split))

    def watch(row: Mapping[str, Any], pair: PreferencePair) -> None:
        seen.row_formats[format_of_row(row)] += 1
        for column, value in row.items():
            if value not in (None, "", [], {}):
                seen.columns[column] = seen.columns.get(column, False) or column not in pair.meta
        if len(seen.first) < first:
            seen.first.append(pair)

    for item in read(source, name=name, watch=watch, chosen_by=rule, split=split):
        seen.rows += 1
        if isinstance(item, RowError):
            seen.refused += 1
            if len(seen.refusals) < MOST_REFUSED:
                seen.refusals.append(item)
            continue
        responses = [response for _, response in item.sides()]
        seen.pairs += len(responses) == 2
        seen.identical += item.says_the_same
        seen.labelled += any(response.spans is not None for response in responses)
        seen.rewarded += any(response.token_rewards is not None for response in responses)
        seen.with_tools += item.brings_tools
    seen.left_out = [] if rule is None else rule.told()
    return seen


class Turn(NamedTuple):
    """A turn of a row, as people read it."""

    who: str
    """The role, with what of the turn it is where that is not its words; of a response the side."""
    text: str
    is_answer: bool = False
    """Whether these are words of a response, which are scored and learned."""


def turns_of(pair: PreferencePair) -> list[Turn]:
    """What a row says, turn by turn, as it is read."""
    turns = []
    for turn in (Message("prompt", pair.prompt),) if isinstance(pair.prompt, str) else pair.prompt:
        turns.append(Turn(turn.role, turn.content))
        for name, value in turn.others.items():
            said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            turns.append(Turn(f"{turn.role}, {name}", said))
    for side, response in pair.sides():
        if not response.turns:
            turns.append(Turn(side, response.text, is_answer=True))
        for turn in response.turns:
            turns.append(Turn(f"{side}, {turn.role}", text_of([turn]), turn.role == "assistant"))
    return turns


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
