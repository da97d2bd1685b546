"""What can go wrong while computing, each with a sentence for the user.

EngineError
├── DataError            a data set, a row or a file cannot be read as what it claims to be
│   ├── RowError         one row; carries the line and the reason
│   └── RowsRefused      rows of a file, which nobody allowed to leave out; carries the first of them
├── RequestError         a request contradicts itself or asks for what does not exist
├── ModelError           a model cannot be loaded or does not fit the request
│   └── UntrustedCodeError   the model brings code of its own, and nobody allowed that
├── ResourceError        out of memory, disk or device
└── Cancelled            somebody asked the job to stop; no failure

Every message is a whole sentence that says what to do. `code` is a constant word for programs. Where one
field of the request is at fault, `field` is its path with dots between, such as `supervision.source`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class EngineError(Exception):
    """A failure that is the user's to mend; `str(error)` is the sentence shown to them."""

    code = "engine_error"

    def __init__(self, sentence: str, *, field: str | None = None) -> None:
        super().__init__(sentence)
        self.field = field


class DataError(EngineError):
    code = "invalid_data"


class RowError(DataError):
    """One row is refused. `line` counts from 1; `field` names the place inside the row, or is None."""

    code = "invalid_row"

    def __init__(self, line: int, reason: str, field: str | None = None) -> None:
        self.line = line
        self.reason = reason
        where = f"line {line}" if field is None else f"line {line}, field `{field}`"
        super().__init__(f"{where}: {reason}", field=field)

    def as_row(self) -> dict[str, Any]:
        """As JSON."""
        return {"line": self.line, "field": self.field, "reason": self.reason}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> RowError:
        """What `as_row` made, again."""
        return cls(row["line"], row["reason"], row["field"])


class RowsRefused(DataError):
    """Rows of a file cannot be used. `rows` are the first of them."""

    code = "invalid_rows"

    def __init__(self, sentence: str, rows: Sequence[DataError]) -> None:
        super().__init__(sentence)
        self.rows = rows


class RequestError(EngineError):
    code = "invalid_request"


class ModelError(EngineError):
    code = "model_unusable"


class UntrustedCodeError(ModelError):
    code = "untrusted_code"


class ResourceError(EngineError):
    code = "out_of_resources"


class Cancelled(EngineError):
    code = "cancelled"
