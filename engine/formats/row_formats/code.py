"""Code that passes a test, as in HumanEval (`test`, `entry_point`) and MBPP (`test_list`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.formats.questions import from_cell, question_of, task_of, texts_of
from engine.formats.registry import ROW_FORMATS, RowFormat, UnreadField
from engine.tasks import Task

_NEXT_TOP_LEVEL = ["\ndef ", "\nclass ", "\n@", "\n#", "\nif ", "\nprint(", "\nassert "]


def _read(row: dict[str, Any], key: str) -> Task:
    fields = _of_wish(row) if row.get("test_list") is not None else _of_beginning(row)
    return task_of(row, key, {**fields, "max_new_tokens": 512})


def _of_wish(row: Mapping[str, Any]) -> dict[str, Any]:
    """MBPP: what is wanted, in words, and assertions."""
    asserts = row["test_list"]
    asserts = from_cell(asserts, "test_list") if isinstance(asserts, str) else asserts
    before = "\n".join([*_lines(row.get("test_imports")), *_lines(row.get("test_setup_code"))])
    question = row.get("text") or row.get("prompt")
    if not isinstance(question, str):
        raise UnreadField("prompt", "is missing; write what the policy is asked.")
    tests = texts_of(asserts, "test_list")
    shown = '"""\n' + question + "\n" + "\n".join(tests) + '\n"""\n'
    checker = {"kind": "code", "before": before and before + "\n", "test": "\n".join(tests)}
    return question_of({**row, "prompt": shown}, checker)


def _of_beginning(row: Mapping[str, Any]) -> dict[str, Any]:
    """HumanEval: the beginning of a function, and a test that defines `check`."""
    prompt, test = row.get("prompt"), row.get("test")
    if not isinstance(prompt, str):
        raise UnreadField("prompt", "is missing; write the beginning of the function as text.")
    entry = row.get("entry_point")
    test = f"{test}\ncheck({entry})" if entry else test
    before = row["before"] if row.get("before") is not None else prompt
    checker: dict[str, Any] = {"kind": "code", "before": before, "test": test}
    if row.get("seconds") is not None:
        checker["seconds"] = row["seconds"]
    stop = {"stop": _NEXT_TOP_LEVEL} if before == prompt else {}
    return question_of(row, checker) | stop


def _lines(value: Any) -> list[str]:
    return [] if not value else texts_of(value, "test_imports")


ROW_FORMATS.register(
    RowFormat(
        name="code",
        of="tasks",
        description="`prompt`, `test` and `entry_point` (HumanEval), or `text` and `test_list` (MBPP).",
        matches=lambda row: row.get("test") is not None or row.get("test_list") is not None,
        read=_read,
    )
)
