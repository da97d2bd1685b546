"""JSON: one array of objects. Streams: no more than one row is held. Knows no columns."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from engine.errors import RowError
from engine.formats.compression import DAMAGED
from engine.formats.json_text import named_twice, no_constant, no_object
from engine.formats.registry import FILE_TYPES, FileType, NumberedRow
from engine.formats.streams import MAX_ROW_BYTES, damaged_here, row_too_large

_CHUNK_CHARACTERS = 2**18
_BLANKS = re.compile(r"[ \t\r\n]+")


def read_json_array(file: BinaryIO) -> Iterator[NumberedRow]:
    """The objects of one JSON array, as they come. What is no JSON ends the reading with a RowError."""
    array = _ArrayText(file)
    try:
        array.expect("[")
        while array.next_is_value():
            line = array.line
            yield NumberedRow(line, array.row())
    except RowError as error:
        yield NumberedRow(error.line, error)
    except DAMAGED:
        yield NumberedRow(array.line, damaged_here(array.line))


class _ArrayText:
    """The text of a JSON array behind a window that moves on as its elements are taken."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder(parse_constant=self._note_constant, object_pairs_hook=self._object)
        self._constant: str | None = None
        self._twice: str | None = None
        self._text = ""
        self._position = 0
        self._ended = False
        self._first = True
        self.line = 1

    def expect(self, character: str) -> None:
        """Takes one character. Raises RowError where another stands."""
        if self._next() != character:
            raise self._broken(f"`{character}` is expected")
        self._take_to(self._position + 1)

    def next_is_value(self) -> bool:
        """Whether another element follows; stands at its start. Raises RowError where the array is broken."""
        if self._next() == "]":
            self._take_to(self._position + 1)
            if self._next():
                raise self._broken("something follows its end")
            return False
        if not self._first:
            self.expect(",")
            self._next()
        self._first = False
        return True

    def row(self) -> dict[str, Any] | RowError:
        """The element that starts here. Raises RowError where no JSON value does."""
        line = self.line
        value = self._value()
        if self._constant is not None:
            return RowError(line, f"The row {no_constant(self._constant)}.")
        if self._twice is not None:
            return RowError(line, f"The row {named_twice(self._twice)}.", self._twice)
        return value if isinstance(value, dict) else no_object(line)

    def _value(self) -> Any:
        wanted = _CHUNK_CHARACTERS
        while True:
            self._fill(wanted)
            self._constant = self._twice = None
            try:
                value, end = self._json.raw_decode(self._text, self._position)
            except RecursionError:
                raise self._broken("it is nested too deeply") from None
            except ValueError:
                if self._ended:
                    raise self._broken("it is cut off, or no JSON") from None
            else:
                if end < len(self._text) or self._ended:
                    self._take_to(end)
                    return value
            if wanted > MAX_ROW_BYTES:
                raise row_too_large(self.line)
            wanted *= 2

    def _next(self) -> str:
        """The next character that is no blank, which is not taken; empty at the end."""
        while True:
            self._fill(1)
            blanks = _BLANKS.match(self._text, self._position)
            if blanks is None or blanks.end() == self._position:
                return self._text[self._position : self._position + 1]
            self._take_to(blanks.end())

    def _fill(self, wanted: int) -> None:
        """Reads on until `wanted` characters are at hand, or the file ends."""
        while len(self._text) - self._position < wanted and not self._ended:
            chunk = self._file.read(_CHUNK_CHARACTERS)
            self._ended = not chunk
            try:
                more = self._decoder.decode(chunk, final=self._ended)
            except UnicodeDecodeError:
                raise RowError(self.line, "The text is not UTF-8; save the file as UTF-8.") from None
            self._text = self._text[self._position :] + more
            self._position = 0

    def _take_to(self, position: int) -> None:
        self.line += self._text.count("\n", self._position, position)
        self._position = position

    def _object(self, items: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(items)
        if len(made) < len(items):
            names = [name for name, _ in items]
            self._twice = next(name for name in names if names.count(name) > 1)
        return made

    def _note_constant(self, name: str) -> None:
        self._constant = name

    def _broken(self, reason: str) -> RowError:
        return RowError(
            self.line,
            f"The JSON array cannot be read on from here ({reason}); write one object a line (JSONL).",
        )


FILE_TYPES.register(
    FileType(
        name="json",
        label="JSON",
        description="One array of JSON objects.",
        endings=(".json",),
        read=lambda file, known: read_json_array(file),
        shape=lambda text, known: text.startswith(b"["),
    )
)
