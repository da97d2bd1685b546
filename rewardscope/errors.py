"""What a server may answer instead of what was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a request, and where."""

    loc: tuple[str | int, ...]
    msg: str


class ServerRefused(Exception):
    """The server answered with a problem document; `str(error)` is its sentence."""

    def __init__(
        self, status: int, code: str, detail: str, errors: Sequence[Fault] = (), request_id: str = ""
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.request_id = request_id

    @classmethod
    def of(cls, answer: httpx.Response) -> ServerRefused:
        """The problem that an answer tells of; also where something else than the server answered."""
        try:
            document: dict[str, Any] = answer.json()
            faults = [Fault(tuple(fault["loc"]), fault["msg"]) for fault in document["errors"]]
            return cls(
                answer.status_code, document["code"], document["detail"], faults, document["request_id"]
            )
        except (ValueError, KeyError, TypeError):
            place = answer.request.url.copy_with(query=None)
            detail = (
                f"{place} answered {answer.status_code} {answer.reason_phrase} in a form that is not "
                "RewardScope's; check the URL, and what stands before the server."
            )
            return cls(answer.status_code, "not_rewardscope", detail)


class RunNotSucceeded(Exception):
    """The run that was waited for ended otherwise; `str(error)` says how."""

    def __init__(self, run_id: int, status: str, detail: str) -> None:
        super().__init__(f"Run {run_id} {status}: {detail}" if detail else f"Run {run_id} {status}.")
        self.run_id = run_id
        self.status = status
        self.detail = detail


class RecipeNotSucceeded(Exception):
    """The recipe that was waited for ended otherwise; `str(error)` says how, and `reasons` which steps."""

    def __init__(self, recipe_id: int, status: str, reasons: Sequence[str]) -> None:
        super().__init__(" ".join([f"Recipe {recipe_id} {status}.", *reasons]))
        self.recipe_id = recipe_id
        self.status = status
        self.reasons = tuple(reasons)
