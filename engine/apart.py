"""Files of strangers read in a process of their own, with bounded memory, time and disk.

A file may be made to crash a reader, to unpack to a thousand times its size, or to take for ever. So whatever
is not a small plain text is read by a child, which gives back canonical rows as JSON; it is told no secret,
and ends with whoever asked. What it may use is below; a file that wants more is refused with a sentence.

    python -m engine.apart ORDER        (JSON: {"file" | "path", "name", "chosen_by", "split", "what"})
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from engine.errors import DataError, EngineError, RequestError, RowError
from engine.formats.canonical import json_line
from engine.formats.chosen_by import ChosenBy
from engine.formats.compression import COMPRESSIONS
from engine.formats.folders import members
from engine.formats.pairs import pair_to_row
from engine.formats.reading import read, read_tasks
from engine.formats.registry import FILE_TYPES
from engine.formats.rows import row_to_pair
from engine.formats.streams import opened
from engine.inspection.rows import RowsSeen, inspect_rows
from engine.registry import PLUGINS
from engine.tasks import Task
from engine.types import PreferencePair
from rewardscope import launcher

MEMORY_BYTES = 3 * 2**30
"""Of address space, of which the libraries take about one third."""
CPU_SECONDS = 900
UNPACKED_BYTES = 16 * 2**30
"""Of a compressed file that is unpacked to be read back and forth."""
LEAST_OUTPUT_BYTES, MOST_GROWTH = 256 * 2**20, 200
"""Rows may hold this much, or that many times the size of the file: no honest compression does better."""
NEAR_BYTES = 256 * 2**10
"""A plain text up to this size is read here: a process for it would take longer than its rows."""
PATIENCE_SECONDS = 5.0
"""For the child to say why it ended."""

_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "HOME", "PYTHONPATH", "VIRTUAL_ENV", PLUGINS)
_KINDS: dict[str, type[EngineError]] = {"DataError": DataError, "RequestError": RequestError}


def read_apart(
    source: Path | BinaryIO,
    name: str | None = None,
    chosen_by: ChosenBy | None = None,
    split: str | None = None,
) -> Iterator[PreferencePair | RowError]:
    """As `read`, in a process of its own where the file is not a small plain text. Raises as `read`, and
    DataError where the file wants more memory or time than there is, or crashes its reader."""
    if _is_near(source):
        yield from read(source, name=name, chosen_by=chosen_by, split=split)
        return
    rule = None if chosen_by is None else str(chosen_by)
    order = {"name": name, "chosen_by": rule, "split": split, "what": "pairs"}
    for said in _said(source, order):
        if "counts" in said and chosen_by is not None:
            chosen_by.singles, chosen_by.ties, chosen_by.between = said["counts"]
        elif "row" in said:
            yield row_to_pair(said["row"], storable=True, canonical=True)
        elif "line" in said:
            yield RowError.from_row(said)


def read_tasks_apart(source: Path | BinaryIO) -> Iterator[Task | RowError]:
    """As `read_tasks`, and as `read_apart`."""
    if _is_near(source):
        yield from read_tasks(source)
        return
    for said in _said(source, {"name": None, "chosen_by": None, "split": None, "what": "tasks"}):
        if "row" in said:
            yield Task.model_validate(said["row"])
        elif "line" in said:
            yield RowError.from_row(said)


def inspect_apart(
    source: Path | BinaryIO,
    *,
    name: str | None = None,
    chosen_by: str | None = None,
    split: str | None = None,
    first: int = 3,
) -> RowsSeen:
    """As `inspect_rows`, and as `read_apart`."""
    if _is_near(source):
        return inspect_rows(source, name=name, chosen_by=chosen_by, split=split, first=first)
    asked = {"name": name, "chosen_by": chosen_by, "split": split, "first": first}
    order = {**asked, "what": "inspection"}
    (seen,) = [said["seen"] for said in _said(source, order) if "seen" in said]
    return RowsSeen.from_row(seen)


def _is_near(source: Path | BinaryIO) -> bool:
    """Whether it is a small plain text, which no reader has trouble with."""
    if isinstance(source, Path) and not source.is_file():
        return False
    with opened(source) as file:
        head = file.read(16)
        if file.seek(0, os.SEEK_END) > NEAR_BYTES:
            return False
    magics = [one.magic for one in COMPRESSIONS]
    magics += [magic for one in FILE_TYPES.values() for magic in one.magics]
    return not head.startswith(tuple(magics))


def _said(source: Path | BinaryIO, order: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What the child says, a document a line. Ends the child when nobody listens any more."""
    with (
        tempfile.TemporaryFile() as complaints,
        tempfile.TemporaryDirectory(prefix="rewardscope-read-") as scratch,
    ):
        passed, place = _passed(source, order["split"], scratch)
        process = subprocess.Popen(
            [*launcher.command("engine.apart"), json.dumps({**order, **place})],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            pass_fds=passed,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | {"TMPDIR": scratch},
            start_new_session=True,
        )
        assert process.stdout is not None
        ended = False
        try:
            for line in process.stdout:
                said = json.loads(line)
                if "raise" in said:
                    raise _KINDS.get(said["raise"], DataError)(said["detail"])
                ended = "end" in said
                yield said
            process.wait(PATIENCE_SECONDS)
            if not ended:
                raise DataError(_why(process.returncode, complaints))
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


def _passed(source: Path | BinaryIO, split: str | None, scratch: str) -> tuple[list[int], dict[str, Any]]:
    """What the child is given of the source: a path, or an open file; and its size."""
    if isinstance(source, Path):
        files = [source] if source.is_file() else [one.path for one in members(source, split)]
        return [], {"path": str(source), "size": sum(one.stat().st_size for one in files)}
    size = source.seek(0, os.SEEK_END)
    source.seek(0)
    try:
        number = source.fileno()
    except OSError:  # A stream in memory.
        copy = Path(scratch) / "rows"
        with copy.open("wb") as file:
            shutil.copyfileobj(source, file)
        return [], {"copy": str(copy), "size": size}
    return [number], {"file": number, "size": size}


def _why(status: int, complaints: BinaryIO) -> str:
    """What is said of a child that ended without a word."""
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return (
            f"The file takes more than {CPU_SECONDS // 60} minutes to be read; split it, or send it as JSONL."
        )
    if status == -signal.SIGXFSZ:
        return "The file unpacks to more than can be read; send it as JSONL, or in parts."
    if status < 0:
        return (
            f"The file made its reader crash ({signal.Signals(-status).name}): it is damaged, or made to do "
            "so; write it again."
        )
    complaints.seek(0)
    last = complaints.read().decode(errors="replace").strip().splitlines()[-1:]
    return f"The file cannot be read ({''.join(last)[:200] or 'its reader gave up'}); write it again."


# -------------------------------------------------------------------------------------------------- the child


def main() -> None:
    """Reads the file of the order, and prints its rows."""
    order = json.loads(sys.argv[1])
    _limit()
    out = sys.stdout.buffer
    rule = None if order["chosen_by"] is None else ChosenBy.parse(order["chosen_by"])
    try:
        with _opened(order) as source:
            if order["what"] == "inspection":
                asked = {one: order[one] for one in ("name", "chosen_by", "split", "first")}
                out.write(json_line({"seen": inspect_rows(source, **asked).as_row()}))
            else:
                rows: Iterator[Any] = (
                    read_tasks(source)
                    if order["what"] == "tasks"
                    else read(source, name=order["name"], chosen_by=rule, split=order["split"])
                )
                allowed = max(LEAST_OUTPUT_BYTES, MOST_GROWTH * order["size"])
                for row in rows:
                    allowed -= out.write(json_line(_document(row)))
                    if allowed < 0:
                        raise DataError(_too_much(order["size"]))
        counts = None if rule is None else [rule.singles, rule.ties, rule.between]
        out.write(json_line({"end": True, **({} if counts is None else {"counts": counts})}))
    except EngineError as error:
        out.write(json_line({"raise": type(error).__name__, "detail": str(error)}))
    except MemoryError:
        detail = (
            f"The file needs more than {MEMORY_BYTES // 2**30} GiB of memory to be read; send it as JSONL."
        )
        out.write(json_line({"raise": "DataError", "detail": detail}))
    out.flush()
    os._exit(0)  # Destructors of a damaged file's buffers are not worth a crash.


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (UNPACKED_BYTES, UNPACKED_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextmanager
def _opened(order: Mapping[str, Any]) -> Iterator[Path | BinaryIO]:
    """The order's file as `read` takes it."""
    if "path" in order:
        yield Path(order["path"])
    else:
        with open(order.get("file", order.get("copy")), "rb") as file:  # noqa: PTH123 - may be a number
            yield file


def _too_much(size: int) -> str:
    most = max(LEAST_OUTPUT_BYTES, MOST_GROWTH * size) // 2**20
    return (
        f"The file of {size:,} bytes unpacks to more than {most} MiB of rows; send it as JSONL, or in parts."
    )


def _document(row: PreferencePair | Task | RowError) -> dict[str, Any]:
    if isinstance(row, RowError):
        return row.as_row()
    return {"row": row.model_dump(mode="json") if isinstance(row, Task) else pair_to_row(row)}


if __name__ == "__main__":
    main()
