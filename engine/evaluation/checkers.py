"""Whether an answer to a task is right. Knows answers as texts and no model.

A pattern is searched by the `regex` package, which gives up after PATTERN_SECONDS: patterns come with suites,
and some of them take for ever on some answers. Such an answer counts as wrong.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import regex

from engine.evaluation.code import fenced, passes_test
from engine.tasks import Choice, Code, Exact, Number, Regex, Task

log = logging.getLogger(__name__)

PATTERN_SECONDS = 1.0

_NUMBER = re.compile(
    r"""
    (?<![\w.])                                  # not within a word or behind a point
    (?P<sign>[-+\u2212])?
    [$€£¥]?
    (?P<sign_inside>(?<=[$€£¥])[-+\u2212])?
    (?P<digits>(?:\d{1,3}(?:,\d{3})++(?!\d)|\d++)(?:\.\d++)?|\.\d++)
    (?P<exponent>[eE][-+]?\d++)?
    """,
    re.VERBOSE,
)


def passes(task: Task, answer: str) -> bool:
    """Whether the answer is right. Tasks of code run it: ask `check_code_allowed` first.

    Raises ValueError for a choice, which is read from the policy and has no answer.
    """
    checker = task.checker
    if isinstance(checker, Code):
        inside = fenced(answer)
        return passes_test(checker, cut(answer, task.stop) if inside is None else inside)
    said = cut(answer, task.stop)
    if isinstance(checker, Exact):
        return any(_is(said, one, checker.prefix) for one in checker.answers)
    if isinstance(checker, Regex):
        return _found(checker.pattern, said)
    if isinstance(checker, Number):
        value = last_number(said)
        return value is not None and abs(value - checker.value) <= checker.tolerance
    assert isinstance(checker, Choice)
    raise ValueError("A choice is read from the policy's log-probabilities, not from an answer.")


def cut(answer: str, stops: Sequence[str]) -> str:
    """The answer up to the first of these texts."""
    ends = [at for stop in stops if (at := answer.find(stop)) >= 0]
    return answer[: min(ends, default=len(answer))]


def last_number(text: str) -> float | None:
    """The last number of a text: "1,234", "$5", "-3.5", "1e-3"; None where there is none.

    Fractions such as 3/4 are left alone, both their numbers.
    """
    value = None
    for found in _NUMBER.finditer(text):
        before, after = text[: found.start()].rstrip(), text[found.end() :].lstrip()
        if before.endswith("/") or (after.startswith("/") and after[1:].lstrip()[:1].isdigit()):
            continue
        digits = found["digits"].replace(",", "") + (found["exponent"] or "")
        negative = (found["sign"] or found["sign_inside"]) in ("-", "\u2212")
        value = -float(digits) if negative else float(digits)
    return value


def _is(answer: str, right: str, prefix: bool) -> bool:
    said, wanted = answer.strip().casefold(), right.strip().casefold()
    if not prefix:
        return said == wanted
    return said.startswith(wanted) and not (wanted[-1:].isalnum() and said[len(wanted) :][:1].isalnum())


def _found(pattern: str, answer: str) -> bool:
    try:
        return regex.search(pattern, answer, timeout=PATTERN_SECONDS) is not None
    except TimeoutError:
        log.warning("pattern took too long", extra={"pattern": pattern[:200]})
        return False
