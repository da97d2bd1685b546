"""Tasks: a prompt, and a program that tells whether an answer is right. Imports no torch.

The rows of a task suite, one JSON object a line, are `Task`s; `formats` reads these and the rows in which
public suites come.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

import regex
from pydantic import Field, field_validator, model_validator

from engine.fields import StrictModel


class Exact(StrictModel):
    """The answer is one of these, or begins with one where `prefix` is set; case and outer space aside."""

    kind: Literal["exact"] = "exact"
    answers: list[Annotated[str, Field(min_length=1)]] = Field(min_length=1)
    """What is right."""
    prefix: bool = False
    """The answer may go on after it, but not within a word."""


class Regex(StrictModel):
    """The pattern is found in the answer."""

    kind: Literal["regex"] = "regex"
    pattern: str = Field(min_length=1)
    """A regular expression, searched for anywhere in the answer."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            regex.compile(pattern)
        except regex.error as error:
            raise ValueError(f"is no regular expression ({error})") from error
        return pattern


class Number(StrictModel):
    """The last number of the answer is this one."""

    kind: Literal["number"] = "number"
    value: float
    """What is right."""
    tolerance: float = Field(1e-6, ge=0)
    """How far the answer's number may be off."""


class Choice(StrictModel):
    """The likeliest of the options, by mean log-probability a token after the prompt; nothing is sampled."""

    kind: Literal["choice"] = "choice"
    options: list[Annotated[str, Field(min_length=1)]] = Field(min_length=2)
    """What may be answered."""
    right: int = Field(ge=0)
    """Which option is right; counts from 0."""

    @model_validator(mode="after")
    def _right_exists(self) -> Self:
        if self.right >= len(self.options):
            raise ValueError(f"option {self.right} of {len(self.options)} does not exist; they count from 0")
        return self


class Code(StrictModel):
    """The answer, put behind `before`, passes `test` in a process of its own with bounded resources.

    Runs only where an administrator allowed it. Where the answer fences its code (```python), the code inside
    is what counts."""

    kind: Literal["code"] = "code"
    before: str = ""
    """Code that stands before the answer."""
    test: str = Field(min_length=1)
    """Code that runs after the answer, and fails where it is wrong."""
    seconds: float = Field(5.0, gt=0, le=60)
    """After which it is stopped, and wrong."""


_AnyChecker = Exact | Regex | Number | Choice | Code
Checker = Annotated[_AnyChecker, Field(discriminator="kind")]
CHECKERS: tuple[str, ...] = tuple(kind.model_fields["kind"].default for kind in get_args(_AnyChecker))
"""Their kinds, in the order in which people are told of them."""


class Task(StrictModel):
    """One question."""

    key: str = Field(min_length=1, max_length=512)
    """Its name, unique in its suite."""
    prompt: str | list[dict[str, str]]
    """Plain text, or messages (`role`, `content`) that go through the model's chat template."""
    prefix: str = ""
    """How the answer begins: given to the policy, which goes on from there; checkers see what follows."""
    stop: list[Annotated[str, Field(min_length=1)]] = Field([])
    """The answer ends before the first of these texts."""
    checker: Checker
    """How an answer is checked."""
    category: str = ""
    """What figures are grouped by."""
    kept: bool = False
    """Whether the training data say nothing of it: its change is forgetting."""
    max_new_tokens: int = Field(64, ge=1, le=8192)
    """A longer answer is cut off."""

    @field_validator("prompt")
    @classmethod
    def _are_messages(cls, prompt: str | list[dict[str, str]]) -> str | list[dict[str, str]]:
        if isinstance(prompt, list) and (
            not prompt or any(set(one) != {"role", "content"} for one in prompt)
        ):
            raise ValueError("must be a text, or messages that each have a `role` and a `content`")
        return prompt
