"""What a file type and a row format are, and the registries that know all of both.

A file type says how rows lie in a file: JSONL, CSV, Parquet. A row format says what the columns of a row
mean: a preference with text, a conversation, a task of a public suite. The two know nothing of each other.
Each is one file that registers what it declares; modules of others join as the kinds `formats` and `rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from engine.errors import RowError
from engine.registry import Registry
from engine.tasks import Task
from engine.types import PreferencePair

KnownColumns = Callable[[Collection[str]], int]
"""How many of these names are columns of the rows that are looked for; 0: they are no header of such rows."""


class NumberedRow(NamedTuple):
    """A row of any file, before its columns are looked at."""

    line: int
    """The line where it starts, from 1; in files without lines the row's number."""
    content: Mapping[str, Any] | RowError
    file: str | None = None
    """Which of several files it is of, where the rows come from a folder."""
    storable: bool = False
    """Whether the reader saw that no text of the row needs `rows.refuse_unstorable_text`."""


class UnreadField(Exception):
    """A field that cannot be read, or None for the row: the subject of the sentence that `reason` ends."""

    def __init__(self, field: str | None, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(reason)

    def at(self, line: int) -> RowError:
        """The refusal where the line is known."""
        subject = "The row" if self.field is None else f"`{self.field}`"
        return RowError(line, f"{subject} {self.reason}", self.field)


def _no_text(text: bytes, known: KnownColumns) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileType:
    """One way in which rows lie in a file. It has `magics` or a `shape`, as the content decides."""

    name: str
    """The word for it in calls, as in `read(file, "jsonl")`."""
    label: str
    """What people call it, as in a list: JSONL, CSV or Parquet."""
    description: str
    """One sentence for people."""
    endings: tuple[str, ...]
    """Of names of files, before those of compression. Where several types share one, `shape` decides."""
    read: Callable[[BinaryIO, KnownColumns], Iterator[NumberedRow]]
    """The rows of a file that stands at its start, not compressed. A row that cannot be read is a RowError
    with its line, and reading goes on; DataError is for a whole that is no such file. Holds one batch of
    rows."""
    magics: tuple[bytes, ...] = ()
    """How every file of the type begins, whatever it is called."""
    shape: Callable[[bytes, KnownColumns], bool] = _no_text
    """Whether a file is one whose first 64 KiB, but for a byte order mark and blanks, are this text."""
    seeks: bool = False
    """Whether `read` goes back and forth in the file."""
    folder: Callable[[Path, str | None], list[Path] | None] | None = None
    """The files of a folder that the type lays out itself, in order, of a split where one is named; None
    where the folder is none of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFormat:
    """One meaning of the columns of a row."""

    name: str
    of: Literal["pairs", "tasks"]
    """What the rows become."""
    description: str
    """One sentence for people."""
    columns: tuple[str, ...] = ()
    """Columns that a header of CSV is known by: one of them stands in it."""
    beside: tuple[str, ...] = ()
    """Columns that often stand beside those."""
    matches: Callable[[Mapping[str, Any]], bool]
    """Whether a row is of this format, by its columns and the kinds of their values; never raises."""
    read: Callable[[dict[str, Any], str], PreferencePair | Task]
    """The pair or the task of a row, which it may take apart, and of a key. Raises UnreadField."""


FILE_TYPES: Registry[FileType] = Registry("formats")
"""Where several shapes fit, the first one registered counts."""
ROW_FORMATS: Registry[RowFormat] = Registry("rows")
"""Where several formats match, the last one registered counts: ours are in the order from general to
special."""
