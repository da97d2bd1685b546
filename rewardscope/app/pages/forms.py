"""What people typed, as values: blank fields are missing, and what cannot be read is said in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import QueryParams

from rewardscope.app.errors import Invalid, Problem

Model = TypeVar("Model", bound=BaseModel)


def filled(parameters: QueryParams) -> dict[str, str]:
    """The fields of a GET form that were filled in, the last of each name."""
    return {name: value.strip() for name, value in parameters.items() if value.strip()}


def validated(model: type[Model], values: Mapping[str, Any], where: str = "query") -> Model:
    """`values` as a `model`. Raises Invalid with a line for each field that cannot be used."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        problems = [
            Problem((where, *fault["loc"]), str(fault["msg"]).removeprefix("Value error, "))
            for fault in error.errors(include_url=False)
        ]
        first = problems[0]
        field = ".".join(str(part) for part in first.loc[1:])
        raise Invalid(
            f"`{field}` cannot be used: {first.msg}. Correct it and try again.", errors=problems
        ) from None


def page_number(value: str | None) -> int | None:
    """A whole number from a query, or None where there is none. Raises Invalid."""
    if not value:
        return None
    if not value.isdecimal() or len(value) > 18:
        raise Invalid(f"`{value[:40]}` is not the number of a run; open it from a list.")
    return int(value)
