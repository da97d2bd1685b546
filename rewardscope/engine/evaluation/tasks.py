"""Tasks: a prompt, and a program that tells whether an answer is right. Imports no torch.

The rows of a task suite, one JSON object a line, are `Task`s; `formats.task_rows` reads these and the shapes
in which public suites come.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Exact(_Strict):
    """The answer is one of these, or begins with one where `prefix` is set; case and outer space aside."""

    kind: Literal["exact"] = "exact"
    answers: list[str] = Field(min_length=1)
    prefix: bool = False
    """The answer may go on after it, but not within a word."""


class Regex(_Strict):
    """The pattern is found in the answer."""

    kind: Literal["regex"] = "regex"
    pattern: str = Field(min_length=1)


class Number(_Strict):
    """The last number of the answer is this one."""

    kind: Literal["number"] = "number"
    value: float
    tolerance: float = Field(1e-6, ge=0)


class Choice(_Strict):
    """The likeliest of the options, by mean log-probability a token after the prompt; nothing is sampled."""

    kind: Literal["choice"] = "choice"
    options: list[str] = Field(min_length=2)
    right: int = Field(ge=0)


class Code(_Strict):
    """The answer, put behind `before`, passes `test` in a process of its own with bounded resources.

    Runs only where an administrator allowed it."""

    kind: Literal["code"] = "code"
    before: str = ""
    test: str = Field(min_length=1)
    seconds: float = Field(5.0, gt=0, le=60)


Checker = Annotated[Exact | Regex | Number | Choice | Code, Field(discriminator="kind")]


class Task(_Strict):
    """One question."""

    key: str = Field(min_length=1)
    prompt: str | list[dict[str, str]]
    prefix: str = ""
    """How the answer begins: given to the policy, which goes on from there; checkers see what follows."""
    checker: Checker
    category: str = ""
    """What figures are grouped by."""
    kept: bool = False
    """Whether the training data say nothing of it: its change is forgetting."""
    max_new_tokens: int = Field(64, ge=1, le=8192)
