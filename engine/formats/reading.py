"""Pairs and tasks out of any file or folder that people have, recognised by content and name.

Knows which file type reads a file, that keys are unique, and nothing of columns.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from engine.errors import DataError, RequestError, RowError
from engine.formats.chosen_by import ChosenBy
from engine.formats.compression import DAMAGED, decompressed
from engine.formats.folders import members
from engine.formats.listing import ending_of, file_labels
from engine.formats.registry import FILE_TYPES, FileType, KnownColumns, NumberedRow
from engine.formats.rows import known_columns, row_to_pair, row_to_task
from engine.formats.streams import copied, opened
from engine.tasks import Task
from engine.types import PreferencePair

_HEAD_BYTES = 2**16
_MARK = b"\xef\xbb\xbf"
_WRAPPED = re.compile(
    rb'(?:\xef\xbb\xbf)?\s*\{\s*"(data|rows|items|examples|instances|records|train|test|validation)"\s*:\s*\[\s*\{'
)
"""How a document begins that holds its rows as one list under a name."""

Item = TypeVar("Item", PreferencePair, Task)


@dataclass(frozen=True, slots=True)
class _Kind(Generic[Item]):
    """What the rows of a file become, and the words for it."""

    make: Callable[..., Item]
    """The item of a row, its line, its number, and `storable`. Raises RowError."""
    known: KnownColumns
    noun: str
    key: str
    """What keys are called in a refusal."""
    stream: str
    """What a stream without a name is called."""
    otherwise: str | None
    """The file type of what no type recognises; None where such a file is refused."""
    prepare: Callable[[Iterator[NumberedRow]], Iterator[NumberedRow]] = iter
    """What becomes of the rows before items are made of them."""


def read(
    source: Path | BinaryIO,
    format: str = "auto",
    name: str | None = None,
    watch: Callable[[Mapping[str, Any], PreferencePair], None] | None = None,
    chosen_by: ChosenBy | None = None,
    split: str | None = None,
) -> Iterator[PreferencePair | RowError]:
    """The pairs of a file, a stream or a folder, in order; a RowError stands where a row is refused.

    `format` is the name of a file type. `name` is what the user calls a stream: its ending helps to recognise
    it. `chosen_by` says which of single, scored responses are preferred, `split` which split of a folder is
    read. `watch` is called with every row
    that is read, as the file has it, and its pair. Rows without `id` or `key` are named by their number.
    Memory is bounded by one batch of rows and some bytes a key, unless `chosen_by` compares responses. Raises
    DataError, at the call or while reading, where the whole is not what it claims to be or has no row.
    """
    if format not in ("auto", *FILE_TYPES):
        raise RequestError(
            f"There is no format `{format}`; choose one of {', '.join(('auto', *FILE_TYPES))}."
        )
    file_type = None if format == "auto" else FILE_TYPES[format]
    kind = _PAIRS if watch is None else replace(_PAIRS, make=partial(_watched, watch))
    if chosen_by is not None:
        kind = replace(kind, prepare=chosen_by.applied)
    called = _called(source, name)
    if split is not None and not (isinstance(source, Path) and source.is_dir()):
        raise RequestError(
            f"`{called or 'the stream'}` is one file, which has no splits; name a folder, or leave `split` "
            "out."
        )
    return _read(source, kind, called, file_type, split)


def file_type_of(source: Path | BinaryIO, name: str | None = None, split: str | None = None) -> str:
    """What people call the type of a file of pairs, of a folder that of its first file. Raises DataError."""
    if isinstance(source, Path) and source.is_dir():
        source = members(source, split)[0].path
    called = _called(source, name)
    return _file_type(source, _PAIRS, called, f"`{called}`" if called else _PAIRS.stream, None).label


def _called(source: Path | BinaryIO, name: str | None) -> str | None:
    return name or (str(source) if isinstance(source, Path) else None)


def _watched(
    watch: Callable[[Mapping[str, Any], PreferencePair], None],
    row: Mapping[str, Any],
    *place: Any,
    **known: Any,
) -> PreferencePair:
    pair = row_to_pair(row, *place, **known)
    watch(row, pair)
    return pair


def read_tasks(source: Path | BinaryIO, *, chat: bool = False) -> Iterator[Task | RowError]:
    """The tasks of a file, a stream or a folder, as `read`; only the content tells the file type, and what
    shows none is read as JSONL. With `chat`, prompts that are text become a message of the user."""
    return _read(source, _tasks(chat), str(source) if isinstance(source, Path) else None)


def read_suite(path: Path) -> Iterator[Task]:
    """The tasks of a suite that `write_tasks` wrote. Raises the RowError of a bad row, or DataError."""
    for task in read_tasks(path):
        if isinstance(task, RowError):
            raise task
        yield task


_PAIRS = _Kind(row_to_pair, partial(known_columns, "pairs"), "row", "id", "`the stream`", None)


def _tasks(chat: bool) -> _Kind[Task]:
    make = partial(row_to_task, chat=chat)
    return _Kind(make, partial(known_columns, "tasks"), "task", "key", "The file", "jsonl")


# ------------------------------------------------------------------------------------------------- file types


def _read(
    source: Path | BinaryIO,
    kind: _Kind[Item],
    name: str | None,
    file_type: FileType | None = None,
    split: str | None = None,
) -> Iterator[Item | RowError]:
    called = kind.stream if name is None else f"`{name}`"
    if isinstance(source, Path) and source.is_dir():
        files = members(source, split)
        types = [_file_type(one.path, kind, str(one.path), f"`{one.path}`", file_type) for one in files]
        names = [one.name if len(files) > 1 else None for one in files]
        return _items(
            (
                row
                for one, of_file, shown in zip(files, types, names, strict=True)
                for row in _rows(one.path, of_file, kind, shown)
            ),
            kind,
            called,
        )
    if not isinstance(source, Path) and not source.seekable():
        return _read_copy(source, kind, name, file_type)
    file_type = _file_type(source, kind, name, called, file_type)
    return _items(_rows(source, file_type, kind), kind, called)


def _read_copy(
    source: BinaryIO, kind: _Kind[Item], name: str | None, file_type: FileType | None
) -> Iterator[Item | RowError]:
    with copied(source) as copy:
        yield from _read(copy, kind, name, file_type)


def _file_type(
    source: Path | BinaryIO, kind: _Kind[Item], name: str | None, called: str, asked: FileType | None
) -> FileType:
    """What was asked for, else what the file shows. Raises DataError where it is empty, damaged, or
    unreadable."""
    with ExitStack() as stack:
        file = stack.enter_context(opened(source))
        try:
            head = stack.enter_context(decompressed(file)).read(_HEAD_BYTES)
        except DAMAGED as error:
            raise DataError(f"{called} is cut off or damaged: send the whole file again.") from error
    if not head:
        raise DataError(f"{called} is empty; send a file with at least one {kind.noun}.")
    _refuse_unreadable_text(head, called)
    if asked is not None:
        return asked
    found = _recognised(head, "" if kind.otherwise or name is None else ending_of(name), kind.known, called)
    if found is None and kind.otherwise:
        return FILE_TYPES[kind.otherwise]
    if found is None:
        raise DataError(
            f"{called} is neither {file_labels('nor')} with the columns of preference pairs; "
            "convert it to JSONL with `prompt`, `chosen` and `rejected`."
        )
    return found


def _refuse_unreadable_text(head: bytes, called: str) -> None:
    """Refuses text in another encoding, with line breaks that no reader takes, or within one object."""
    if head.startswith(tuple(magic for one in FILE_TYPES.values() for magic in one.magics)):
        return
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head[:2]:
        raise DataError(f"{called} is UTF-16 (line 1); save it as UTF-8.")
    if b"\n" not in head and b"\r" in head.rstrip():
        raise DataError(
            f"{called} ends its lines with a carriage return alone (line 1); save it with line feeds (LF)."
        )
    wrapped = _WRAPPED.match(head)
    if wrapped is not None:
        raise DataError(
            f"{called} is one object with its rows in `{wrapped[1].decode()}` (line 1); send that list, "
            "or one object a line (JSONL)."
        )


def _recognised(head: bytes, ending: str, known: KnownColumns, called: str) -> FileType | None:
    """The type whose magic bytes a file begins with, else the only one of its ending, else the first by
    shape."""
    for file_type in FILE_TYPES.values():
        if head.startswith(file_type.magics):
            return file_type
    claiming = [one for one in FILE_TYPES.values() if ending in one.endings]
    if len(claiming) == 1:
        if claiming[0].magics:
            raise DataError(
                f"{called} is no {claiming[0].name} file inside; write it again, or give it its right name."
            )
        return claiming[0]
    text = head.removeprefix(_MARK).lstrip()
    by_shape = (one for one in claiming or FILE_TYPES.values() if one.shape(text, known))
    return next(by_shape, claiming[0] if claiming else None)


# ------------------------------------------------------------------------------------------------------- rows


def _rows(
    source: Path | BinaryIO, file_type: FileType, kind: _Kind[Item], name: str | None = None
) -> Iterator[NumberedRow]:
    """The rows of a file. With `name` it is one of several, and its rows and errors say so."""
    with ExitStack() as stack:
        file = stack.enter_context(opened(source))
        stream = stack.enter_context(decompressed(file))
        if file_type.seeks and stream is not file:
            stream = stack.enter_context(copied(stream))
        rows = file_type.read(stream, kind.known)
        yield from rows if name is None else (row._replace(file=name) for row in rows)


def _items(rows: Iterator[NumberedRow], kind: _Kind[Item], called: str) -> Iterator[Item | RowError]:
    """Makes pairs or tasks of rows and refuses a key that was there before."""
    first_lines: dict[int, int] = {}
    number = 0
    for number, (line, content, file, storable) in enumerate(kind.prepare(rows), start=1):
        try:
            if isinstance(content, RowError):
                raise content
            item = kind.make(content, line, number, storable=storable)
            first = first_lines.setdefault(_digest(item.key), number if file else line)
            if first != (number if file else line):
                place = f"row {first} of the folder" if file else f"line {first}"
                reason = f"The key `{item.key}` is taken by {place}; give each {kind.noun} its own."
                raise RowError(line, reason, kind.key)
        except RowError as error:
            yield error if file is None else RowError(line, f"{error.reason} (In `{file}`.)", error.field)
        else:
            yield item
    if not number:
        raise DataError(f"{called} holds no {kind.noun}s; send at least one.")


def _digest(key: str) -> int:
    """64 bits in place of the key: two of ten million keys share them once in 400,000 data sets."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest())
