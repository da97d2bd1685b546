"""Which of single, scored responses are preferred: by a column that scores them, as a person states it.

reward>0.5    a response is chosen where its column is above, else rejected
reward        of the responses to one prompt the best is chosen and the worst rejected
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.errors import DataError, RequestError, RowError
from engine.formats.annotations import ANNOTATIONS
from engine.formats.registry import NumberedRow

SCORES = (
    *("reward", "score", "advantage", "advantages", "rating", "overall_score", "preference_score", "return"),
    *("helpfulness", "correctness", "coherence", "complexity", "verbosity", "quality", "honesty"),
)
"""Columns that score a response, in the rows of public data sets and of trainers' logs."""
ENDINGS = ("_reward", "_score", "_advantage", "_rating")
"""How other columns end that score a response, such as those of TRL's reward functions."""
RESPONSES = ("response", "completion")
_RULE = re.compile(r"\s*([^>]*?[^>\s])\s*(?:>\s*(\S+)\s*)?")


def scored_columns(row: Mapping[str, Any]) -> list[str]:
    """The columns of a row of one response that score it."""
    return [name for name, value in row.items() if _is_score(name) and _number(value) is not None]


def _is_score(column: str) -> bool:
    return column in SCORES or column.endswith(ENDINGS)


def is_single(row: Mapping[str, Any]) -> bool:
    """Whether a row holds one response, of which no side is named."""
    sided = row.get("chosen") is not None or row.get("rejected") is not None
    return not sided and any(row.get(name) is not None for name in RESPONSES)


def refusal_of(column: str) -> str:
    """What is said of a scored response of which nobody stated whether it is preferred."""
    return (
        "scores a response, and nothing says whether it is preferred: state a rule with chosen_by (in the "
        f"command line --chosen-by), `{column}` to compare the responses to a prompt, or `{column}>X` for a "
        "threshold; or give each row a `label`."
    )


@dataclass(slots=True)
class ChosenBy:
    """A rule, and what it met."""

    column: str
    above: float | None = None
    """Responses above are chosen; None: responses to one prompt are compared."""
    singles: int = 0
    """Prompts with one response, which nothing was compared with, and which are left out."""
    ties: int = 0
    """Prompts whose responses all have the same score; left out."""
    between: int = 0
    """Responses that are neither the best nor the worst to their prompt; left out."""
    _groups: dict[str, list[NumberedRow]] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, text: str) -> ChosenBy:
        """The rule as people write it. Raises RequestError."""
        found = _RULE.fullmatch(text)
        above = None if found is None or found[2] is None else _number(found[2])
        if found is None or (found[2] is not None and above is None):
            raise RequestError(
                f"`{text}` is no rule: write the name of a column (`reward`), or one with a threshold "
                "(`reward>0.5`)."
            )
        return cls(found[1], above)

    def __str__(self) -> str:
        return self.column if self.above is None else f"{self.column}>{self.above:g}"

    def told(self) -> list[str]:
        """What it left out, in sentences."""
        counts = (
            (self.singles, "prompt", "with a single response, which nothing can be compared with"),
            (self.ties, "prompt", f"with responses of the same `{self.column}`"),
            (self.between, "response", "between the best and the worst to a prompt"),
        )
        return [
            f"Left out: {count:,} {noun}{'' if count == 1 else 's'} {words}."
            for count, noun, words in counts
            if count
        ]

    def applied(self, rows: Iterator[NumberedRow]) -> Iterator[NumberedRow]:
        """Rows of single responses as labelled ones or as pairs; others as they are. Comparing keeps all
        responses in memory until the last one is read."""
        for row in rows:
            content = row.content
            if isinstance(content, RowError) or not is_single(content):
                yield row
                continue
            score = _number(content.get(self.column))
            if score is None:
                reason = (
                    f"is no number here{_others(content, self.column)}; the rule `{self}` needs one to say "
                    "whether the response is preferred."
                )
                yield row._replace(content=RowError(row.line, f"`{self.column}` {reason}", self.column))
            elif self.above is not None:
                yield row._replace(content={**content, "label": score > self.above})
            else:
                asked = [content.get(name) for name in ("prompt", "system", "tools")]
                self._groups.setdefault(json.dumps(asked, default=str), []).append(row)
        groups, self._groups = self._groups, {}
        made = [pair for group in groups.values() for pair in self._pair(group)]
        if groups and not made:
            raise DataError(" ".join(["No two responses to one prompt can be compared.", *self.told()]))
        yield from made

    def _pair(self, group: list[NumberedRow]) -> Iterator[NumberedRow]:
        """The best and the worst of the responses to a prompt, the first ones where several are level."""

        def score(row: NumberedRow) -> float:
            assert isinstance(row.content, Mapping)
            found = _number(row.content[self.column])
            assert found is not None
            return found

        if len(group) == 1:
            self.singles += 1
            return
        best, worst = max(group, key=score), min(group, key=score)
        if score(best) == score(worst):
            self.ties += 1
            return
        self.between += len(group) - 2
        yield best._replace(content=_joined({"chosen": best.content, "rejected": worst.content}))


def _others(row: Mapping[str, Any], column: str) -> str:
    """Which columns score the response instead, where the row does not have the one that was named."""
    scores = ", ".join(f"`{name}`" for name in scored_columns(row))
    return f" ({f'there are {scores}' if scores else 'no column scores it'})" if column not in row else ""


def _joined(sides: Mapping[str, Any]) -> dict[str, Any]:
    """One row of two single responses: what both say alike stands once, the rest by side."""
    chosen, rejected = sides["chosen"], sides["rejected"]
    row = {
        name: value
        for name, value in chosen.items()
        if name not in (*RESPONSES, *ANNOTATIONS, "label") and (name == "id" or rejected.get(name) == value)
    }
    for side, content in sides.items():
        row[side] = next(content[name] for name in RESPONSES if content.get(name) is not None)
        for name, value in content.items():
            if name not in (*RESPONSES, "label", "prompt") and name not in row:
                row[f"{side}_{name}"] = value
    return row


def _number(value: Any) -> float | None:
    """A finite number, also one in a cell of text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
