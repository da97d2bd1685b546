"""What people typed, as values: blank fields are missing, and what cannot be read is said in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.datastructures import QueryParams

from app.errors import Invalid, Problem
from engine.fields import title_of

Model = TypeVar("Model", bound=BaseModel)


def filled(parameters: QueryParams) -> dict[str, str]:
    """The fields of a GET form that were filled in, the last of each name."""
    return {name: value.strip() for name, value in parameters.items() if value.strip()}


def validated(model: type[Model], values: Mapping[str, Any], where: str = "query") -> Model:
    """`values` as a `model`. Raises Invalid with a line for each field that cannot be used, and a sentence
    with the title of the first."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        problems = [Problem((where, *fault["loc"]), said(fault)) for fault in error.errors(include_url=False)]
        first = problems[0]
        parts = first.loc[1:]
        field = title_of(model, parts) or (f"`{'.'.join(map(str, parts))}`" if parts else None)
        fault = first.msg.rstrip(".")
        what = f"it {fault}" if fault[:1].islower() else fault
        told = f"{field} cannot be used: {what}" if field else fault
        raise Invalid(f"{told}. Correct it and try again.", errors=problems) from None


_SAID = {
    "missing": "is missing",
    "too_short": "must hold at least {min_length}",
    "too_long": "may hold at most {max_length}",
    "string_too_long": "takes at most {max_length} characters",
    "string_too_short": "needs at least {min_length} characters",
    "int_parsing": "is no whole number",
    "int_from_float": "is no whole number",
    "int_type": "is no whole number",
    "float_parsing": "is no number",
    "float_type": "is no number",
    "finite_number": "is no finite number",
    "bool_parsing": "is neither true nor false",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "is none of {expected}",
    "union_tag_invalid": "is none of {expected_tags}",
    "extra_forbidden": "is unknown",
}
"""What pydantic finds, as the end of a sentence about the field."""


def said(fault: ErrorDetails) -> str:
    """A fault in our words where we have some, else in those of whoever found it."""
    words = _SAID.get(fault["type"])
    if words is None:
        return str(fault["msg"]).removeprefix("Value error, ")
    facts = fault.get("ctx", {})
    return words.format(
        **{name: f"{value:g}" if isinstance(value, float) else value for name, value in facts.items()}
    )


def page_number(value: str | None) -> int | None:
    """A whole number from a query, or None where there is none. Raises Invalid."""
    if not value:
        return None
    if not value.isdecimal() or len(value) > 18:
        raise Invalid(f"`{value[:40]}` is not a number that a list of ours gave out; open it from there.")
    return int(value)
