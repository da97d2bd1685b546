"""Responses as branches of rows, so that a prompt is read once for all that answer it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Int32

from engine.ragged import Row

Track = TypeVar("Track")


class RowsByPrompt(NamedTuple):
    """Rows, and where in them each response stands."""

    rows: list[Row]
    places: list[tuple[int, int]]
    """Row and branch of each response."""

    def flat(self, of_rows: Sequence[Sequence[Track]]) -> list[Track]:
        """What was read of each branch of each row, in the order of the responses."""
        return [of_rows[row][branch] for row, branch in self.places]


def rows_by_prompt(
    responses: Sequence[tuple[Int32[np.ndarray, " _prompt"], Int32[np.ndarray, " _response"]]],
    token_budget: int | None = None,
) -> RowsByPrompt:
    """Rows of (prompt, response), each within the token budget if it can be."""
    prompts: list[np.ndarray] = []
    branches: list[list[np.ndarray]] = []
    used: list[int] = []
    open_row: dict[bytes, int] = {}
    places = []
    for prompt, ids in responses:
        name = prompt.tobytes()
        row = open_row.get(name)
        if row is None or (token_budget is not None and used[row] + len(ids) > token_budget):
            row = open_row[name] = len(prompts)
            prompts.append(prompt)
            branches.append([])
            used.append(len(prompt))
        places.append((row, len(branches[row])))
        branches[row].append(ids)
        used[row] += len(ids)
    return RowsByPrompt([Row(p, tuple(b)) for p, b in zip(prompts, branches, strict=True)], places)
