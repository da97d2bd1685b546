"""Tasks out of any file that people have, and the JSONL in which suites rest and travel.

A row is of our own shape, or of one that its columns give away:

    `checker` as an object             a `Task`, column by column
    `checker` as a word                exact, regex, number, choice or code, with the columns of that kind
    `test`, `entry_point`              HumanEval: the prompt is a function's beginning, `test` defines `check`
    `test_list`                        MBPP: assertions
    `choices`, `options`, `endings`    MMLU, ARC, HellaSwag: the right one as an index, a letter or its text
    `A`, `B`, `C`, `D`                 the same in columns
    `answer` with `#### 42`            GSM8K: the last number of the answer is 42
    `pattern`                          a regular expression that must be found
    `answer`, `answers`                a number where it is one in JSON, otherwise the exact text

Public questions become the plain text `Question: ...\nAnswer:`, or with `chat` a message of the user. Knows
what checkers are, not how they check.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from engine.errors import DataError, RowError
from engine.formats.arrow_rows import ARROW_MAGICS, PARQUET_MAGIC, read_arrow, read_parquet
from engine.formats.atomic import atomic_file
from engine.formats.canonical import json_line
from engine.formats.conversations import Refusal
from engine.formats.csv_rows import DELIMITERS, columns_of, read_csv
from engine.formats.json_rows import parse_json, read_json_array, read_json_lines
from engine.formats.rows import NumberedRow, refuse_unstorable_text
from engine.formats.streams import DAMAGED, copied, decompressed, opened
from engine.tasks import Task

_QUESTIONS = ("prompt", "question", "problem", "query", "ctx", "instruction", "input")
_ANSWERS = ("answer", "answers", "target", "answerKey", "label", "expected", "correct")
_OPTIONS = ("choices", "options", "endings")
_OPTION_COLUMNS = string.ascii_uppercase[:10]
_CATEGORIES = ("category", "subject", "topic", "level")
_KEYS = ("key", "id", "task_id", "ind")
_COMMON = ("prefix", "stop", "kept", "max_new_tokens")
_NEXT_QUESTION = ["\nQuestion:", "\n\n\n"]
_NEXT_TOP_LEVEL = ["\ndef ", "\nclass ", "\n@", "\n#", "\nif ", "\nprint(", "\nassert "]
_KINDS = {"exact", "regex", "number", "choice", "code", "str"}
"""What pydantic puts into the place of an error, and no row has."""
_HEAD_BYTES = 2**16


def read_tasks(source: Path | BinaryIO, *, chat: bool = False) -> Iterator[Task | RowError]:
    """The tasks of a JSONL, JSON, CSV, Parquet or Arrow file in order; a RowError stands for a refused row.

    The format is told by the content. Rows without a key are named by their number. With `chat`, prompts that
    are text become a message of the user. Raises DataError, at the call or while reading, where the whole is
    no such file or has no row.
    """
    called = f"`{source}`" if isinstance(source, Path) else "The file"
    return _tasks(_rows(source, _reader(source, called)), called, chat)


def read_suite(path: Path) -> Iterator[Task]:
    """The tasks of a suite that `write_tasks` wrote. Raises the RowError of a bad row, or DataError."""
    for task in read_tasks(path):
        if isinstance(task, RowError):
            raise task
        yield task


def write_tasks(path: Path, tasks: Iterable[Task]) -> int:
    """Writes tasks as JSONL, whole or not at all; how many they are. Raises as `canonical.write_pairs`."""
    count = 0
    with atomic_file(path) as file:
        for task in tasks:
            file.write(json_line(task.model_dump(mode="json")))
            count += 1
    return count


def row_to_task(row: Mapping[str, Any], line: int, number: int | None = None, *, chat: bool = False) -> Task:
    """The task that a row holds; `number` names it where it has no key. Raises RowError."""
    try:
        refuse_unstorable_text(row)
        found = _shape(row)(row)
        found["key"] = _key(row, str(line if number is None else number))
        found |= {name: row[name] for name in _COMMON if row.get(name) is not None}
        if isinstance(found.get("checker"), Mapping):
            found.setdefault("category", _category(row))
        if chat and isinstance(found["prompt"], str):
            found["prompt"] = [{"role": "user", "content": found["prompt"]}]
        return Task.model_validate(found)
    except Refusal as refusal:
        subject = "The row" if refusal.field is None else f"`{refusal.field}`"
        raise RowError(line, f"{subject} {refusal.reason}", refusal.field) from None
    except ValidationError as error:
        raise _refused(line, error) from None


# --------------------------------------------------------------------------------------------------- files


def _reader(source: Path | BinaryIO, called: str) -> Callable[[BinaryIO], Iterator[NumberedRow]]:
    """What reads the file, by how it begins."""
    with ExitStack() as stack:
        file = stack.enter_context(opened(source))
        try:
            head = stack.enter_context(decompressed(file)).read(_HEAD_BYTES)
        except DAMAGED as error:
            raise DataError(f"{called} is cut off or damaged: send the whole file again.") from error
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        raise DataError(f"{called} is empty; send a file with at least one task.")
    if head.startswith(PARQUET_MAGIC):
        return read_parquet
    if head.startswith(ARROW_MAGICS):
        return read_arrow
    if text.startswith(b"["):
        return read_json_array
    if not text.startswith(b"{") and _delimiter(text.split(b"\n", 1)[0].decode(errors="replace")):
        return lambda file: read_csv(file, _delimiter)
    return read_json_lines


def _delimiter(header: str) -> str | None:
    """The delimiter that makes a header hold a question."""
    known = set(_QUESTIONS)
    return next((one for one in DELIMITERS if known & set(columns_of(header.strip(), one))), None)


def _rows(
    source: Path | BinaryIO, reader: Callable[[BinaryIO], Iterator[NumberedRow]]
) -> Iterator[NumberedRow]:
    with ExitStack() as stack:
        file = stack.enter_context(opened(source))
        stream = stack.enter_context(decompressed(file))
        if reader in (read_parquet, read_arrow) and stream is not file:
            stream = stack.enter_context(copied(stream))
        yield from reader(stream)


def _tasks(rows: Iterable[NumberedRow], called: str, chat: bool) -> Iterator[Task | RowError]:
    lines: dict[str, int] = {}
    number = 0
    for number, (line, content, _) in enumerate(rows, start=1):
        if isinstance(content, RowError):
            yield content
            continue
        try:
            task = row_to_task(content, line, number, chat=chat)
        except RowError as error:
            yield error
            continue
        first = lines.setdefault(task.key, line)
        if first != line:
            reason = f"The key `{task.key}` is taken by line {first}; give each task its own."
            yield RowError(line, reason, "key")
            continue
        yield task
    if not number:
        raise DataError(f"{called} holds no tasks; send at least one.")


def _refused(line: int, error: ValidationError) -> RowError:
    """The first thing that is wrong with a task, in words."""
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"] if str(part) not in _KINDS and "[" not in str(part)]
    place = ".".join(parts) or "task"
    reason = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    return RowError(line, f"`{place}` is refused: {reason[:1].lower() + reason[1:]}; correct it.", place)


# -------------------------------------------------------------------------------------------------- shapes


def _shape(row: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """What makes a task of a row, by its columns."""
    checker = row.get("checker")
    if isinstance(checker, Mapping):
        return _own
    if isinstance(checker, str):
        if checker not in _BY_WORD:
            raise Refusal("checker", f"is `{checker}`; choose one of {', '.join(_BY_WORD)}.")
        return _BY_WORD[checker]
    if row.get("test") is not None or row.get("test_list") is not None:
        return _code
    if any(row.get(name) is not None for name in _OPTIONS) or _in_columns(row):
        return _choice
    if row.get("pattern") is not None:
        return _regex
    value = _first(row, _ANSWERS)[1]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return _number if is_number or (isinstance(value, str) and "####" in value) else _exact


def _own(row: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in row.items() if name not in ("id", "task_id", "ind")}
    if "prompt" not in row:
        raise Refusal("prompt", "is missing; write what the policy is asked.")
    return found


def _exact(row: Mapping[str, Any]) -> dict[str, Any]:
    name, value = _first(row, _ANSWERS)
    if isinstance(value, Mapping):  # SQuAD: {"text": [...], "answer_start": [...]}
        value = value.get("text")
    answers = _texts(value, name)
    checker = {"kind": "exact", "answers": answers, "prefix": bool(row.get("answer_is_prefix", False))}
    return _asked(row, checker, framed=False)


def _regex(row: Mapping[str, Any]) -> dict[str, Any]:
    pattern = row.get("pattern")
    if pattern is None:
        pattern = _first(row, _ANSWERS)[1]
    return _asked(row, {"kind": "regex", "pattern": pattern}, framed=False)


def _number(row: Mapping[str, Any]) -> dict[str, Any]:
    name, value = _first(row, ("value", *_ANSWERS))
    worked = isinstance(value, str) and "####" in value
    said = str(value).rpartition("####")[2].strip() if worked else str(value).strip()
    try:
        number = float(said.replace(",", "").replace("$", "").replace("\u2212", "-"))
    except ValueError:
        raise Refusal(name, f"is `{said[:40]}`, which is no number; write it with digits alone.") from None
    checker: dict[str, Any] = {"kind": "number", "value": number}
    if row.get("tolerance") is not None:
        checker["tolerance"] = row["tolerance"]
    found = _asked(row, checker, framed=worked and "prompt" not in row)
    return {"max_new_tokens": 400, **found} if worked else found


def _choice(row: Mapping[str, Any]) -> dict[str, Any]:
    name = next((name for name in _OPTIONS if row.get(name) is not None), "choices")
    given, labels = row.get(name), None
    if given is None:
        labels = _in_columns(row)
        given = [row[label] for label in labels]
    elif isinstance(given, str):
        given = _from_cell(given, name)
    if isinstance(given, Mapping):  # ARC: {"text": [...], "label": ["A", ...]}
        labels, given = given.get("label"), given.get("text")
    options = _texts(given, name)
    framed = "prompt" not in row and "ctx" not in row
    found = _asked(row, {}, framed=framed)
    # After plain text an option begins with a space, as a word of a sentence does.
    spaced = isinstance(found["prompt"], str) and (framed or "ctx" in row)
    shown = [" " + option.lstrip() for option in options] if spaced else options
    right = _right(row, options, [str(one) for one in labels or _OPTION_COLUMNS])
    return found | {"checker": {"kind": "choice", "options": shown, "right": right}}


def _right(row: Mapping[str, Any], options: Sequence[str], labels: Sequence[str]) -> int:
    """The place of the right option: an index from 0, a label, or the option's own text."""
    name, value = _first(row, ("right", "answer_index", "gold", *_ANSWERS))
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 1:
        value = value[0]
    said = str(value).strip()
    if said in labels[: len(options)]:
        return list(labels).index(said)
    if said in options:
        return list(options).index(said)
    if not isinstance(value, bool) and said.isdecimal() and int(said) < len(options):
        return int(said)
    raise Refusal(
        name,
        f"is `{said[:40]}`, which names none of the {len(options)} options; write its index from 0, its "
        "letter, or its text.",
    )


def _code(row: Mapping[str, Any]) -> dict[str, Any]:
    if row.get("test_list") is not None:
        asserts = row["test_list"]
        asserts = _from_cell(asserts, "test_list") if isinstance(asserts, str) else asserts
        before = "\n".join([*_lines(row.get("test_imports")), *_lines(row.get("test_setup_code"))])
        question = row.get("text") or row.get("prompt")
        if not isinstance(question, str):
            raise Refusal("prompt", "is missing; write what the policy is asked.")
        tests = _texts(asserts, "test_list")
        shown = '"""\n' + question + "\n" + "\n".join(tests) + '\n"""\n'
        of_asserts = {"kind": "code", "before": before and before + "\n", "test": "\n".join(tests)}
        return _asked({**row, "prompt": shown}, of_asserts, framed=False) | {"max_new_tokens": 512}
    prompt, test = row.get("prompt"), row.get("test")
    if not isinstance(prompt, str):
        raise Refusal("prompt", "is missing; write the beginning of the function as text.")
    entry = row.get("entry_point")
    test = f"{test}\ncheck({entry})" if entry else test
    before = row["before"] if row.get("before") is not None else prompt
    checker: dict[str, Any] = {"kind": "code", "before": before, "test": test}
    if row.get("seconds") is not None:
        checker["seconds"] = row["seconds"]
    stop = {"stop": _NEXT_TOP_LEVEL} if before == prompt else {}
    return _asked(row, checker, framed=False) | {"max_new_tokens": 512} | stop


_BY_WORD = {"exact": _exact, "regex": _regex, "number": _number, "choice": _choice, "code": _code}


def _asked(row: Mapping[str, Any], checker: dict[str, Any], *, framed: bool) -> dict[str, Any]:
    """What every public shape has: the question, framed for a model that merely goes on, and a category."""
    name, question = _first(row, _QUESTIONS)
    if isinstance(question, str) and name == "prompt" and question.startswith("[{"):
        question = _from_cell(question, name)
    found = {"prompt": question, "checker": checker, "category": _category(row)}
    if framed and isinstance(question, str):
        found |= {"prompt": f"Question: {question.strip()}\nAnswer:", "stop": _NEXT_QUESTION}
    return found


def _key(row: Mapping[str, Any], number: str) -> str:
    name, value = _first(row, _KEYS, required=False)
    if value is None:
        return number
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value):
        raise Refusal(name, "is no name; write a text or a whole number.")
    return str(value)


def _category(row: Mapping[str, Any]) -> str:
    value = _first(row, _CATEGORIES, required=False)[1]
    return "" if value is None else str(value)


def _in_columns(row: Mapping[str, Any]) -> list[str]:
    """The letters whose columns hold options; none unless A and B do."""
    there = [letter for letter in _OPTION_COLUMNS if row.get(letter) is not None]
    return there if there[:2] == ["A", "B"] else []


def _first(row: Mapping[str, Any], names: Sequence[str], *, required: bool = True) -> tuple[str, Any]:
    """The first of these columns that the row has, with its value."""
    for name in names:
        if row.get(name) is not None:
            return name, row[name]
    if required:
        raise Refusal(names[0], f"is missing; give the row one of {', '.join(names)}.")
    return names[0], None


def _texts(value: Any, name: str) -> list[str]:
    values = value if isinstance(value, (list, tuple)) else [value]
    if not values or not all(isinstance(one, (str, int, float)) for one in values):
        raise Refusal(name, "is no list of texts; write one.")
    return [str(one) for one in values]


def _lines(value: Any) -> list[str]:
    return [] if not value else _texts(value, "test_imports")


def _from_cell(cell: str, name: str) -> Any:
    """A list or an object that stands in a cell as JSON."""
    try:
        return parse_json(cell)
    except ValueError as error:
        raise Refusal(name, f"must hold JSON, and does not: {error}.") from None
