"""Long forms: fields as the body declares them, named as in it, so that what was typed becomes that body and
what is wrong with it stands beside its field.

`a.b` is field b of part a. A switch `a?` stands for a part that may be missing: without it nothing of `a.`
is sent. Where the body has a choice of methods, `dpo.beta` is field beta of the method `dpo`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_origin

from fastapi import Depends, Request
from pydantic import BaseModel

from app.errors import AppError, Invalid, Problem, problems_of, sentence_of
from app.pages.parts.rendering import Option
from engine.errors import EngineError
from engine.fields import DeclaredField, declared, part_of

Kind = Literal["number", "text", "select", "check", "checks", "switch", "json", "area"]
"""`json` is a line, `area` are several lines, of JSON."""
NONE = "none"
"""What one types where a number has a default and may be left out altogether."""

Typed = Mapping[str, Sequence[str]]
"""What a browser sent: the values of each field."""


@dataclass(frozen=True, slots=True)
class FormField:
    """A field, as it is shown: what it is called, and what stands in it."""

    name: str
    label: str
    kind: Kind = "text"
    hint: str = ""
    unit: str = ""
    """What its number counts or measures."""
    methods: str = ""
    """The methods that have it, with a space between; '' for all of them."""
    choices: tuple[tuple[str, str], ...] = ()
    """Values and words of a select box or of a list of checks."""
    placeholder: str = ""
    """What holds where nothing is typed."""
    listed: str = ""
    """The id of a list of suggestions."""
    step: str = "any"
    low: str = ""
    is_required: bool = False
    may_be_none: bool = False
    value: str = ""
    chosen: tuple[str, ...] = ()
    begins: tuple[str, ...] = ()
    """The checks that are set where nobody set any yet."""
    is_other: bool = False
    """Whether another method is chosen than those that have it."""
    error: str = ""

    @property
    def id(self) -> str:
        """The id of its element."""
        return "field-" + "".join(letter if letter.isalnum() else "-" for letter in self.name)

    @property
    def options(self) -> list[Option]:
        """The entries of its select box or list of checks."""
        chosen = set(self.chosen) if self.kind == "checks" else {self.value}
        known = {value for value, _ in self.choices}
        strange = [Option(value, value, True) for value in sorted(chosen - known) if value]
        return [Option(value, label, value in chosen) for value, label in self.choices] + strange

    @property
    def is_checked(self) -> bool:
        """Whether its check or switch is set."""
        return self.value == "true"

    def belongs_to(self, method: str) -> bool:
        """Whether the method has it."""
        return not self.methods or method in self.methods.split()


def field_of(model: type[BaseModel], path: str, **changes: Any) -> FormField:
    """The field of a form for a field of the body, with what the form alone knows, such as `choices` of the
    data base."""
    return form_field(declared(model, path), **changes)


def form_field(field: DeclaredField, **changes: Any) -> FormField:
    """The same for a field that was looked up already."""
    kind = changes.pop("kind", None) or _kind(field)
    choices = tuple(changes.pop("choices", field.words.items() if field.is_choice else ()))
    may_be_none = field.can_be_switched_off
    hint = f"{field.sentence} `{NONE}`: {field.blank}." if may_be_none else field.sentence
    if kind == "select" and field.is_nullable:
        choices = (("", field.blank), *choices)
    made = FormField(
        name=f"{field.path}?" if kind == "switch" else field.path,
        label=field.title,
        kind=kind,
        hint=hint,
        unit=field.unit,
        choices=choices,
        placeholder=json.dumps(field.value) if kind == "json" else field.default,
        step="1" if field.type is int else "any",
        low="0" if field.type is int else "",
        is_required=field.info.is_required(),
        may_be_none=may_be_none,
        begins=_begins(field) if kind in ("check", "checks") else (),
    )
    return replace(made, **changes)


def _kind(field: DeclaredField) -> Kind:
    """How a field is typed, by what it holds."""
    if part_of(field.info) is not None:
        return "switch"
    if field.is_choice:
        return "select"
    if field.type is bool:
        return "check"
    if field.type in (int, float):
        return "text" if field.can_be_switched_off else "number"
    return {tuple: "json", list: "checks"}.get(get_origin(field.type), "text")  # type: ignore[return-value]


def _begins(field: DeclaredField) -> tuple[str, ...]:
    if field.value is None or field.value is False:
        return ()
    return tuple(word for word in field.default.split(", ") if word)


@dataclass(frozen=True, slots=True)
class FieldGroup:
    """Fields that stand together; those after the first groups are folded away."""

    title: str
    fields: tuple[FormField, ...]
    hint: str = ""
    is_open: bool = False

    @property
    def methods(self) -> str:
        """The methods that have any of its fields; '' where a field is everybody's."""
        names = [field.methods for field in self.fields]
        return "" if "" in names else " ".join(sorted({name for one in names for name in one.split()}))

    @property
    def is_other(self) -> bool:
        """Whether the chosen method has none of its fields."""
        return all(field.is_other for field in self.fields)


async def typed_values(request: Request) -> dict[str, list[str]]:
    """The text fields of the form that was sent, each with all of its values."""
    form = await request.form()
    found: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, str):
            found.setdefault(name, []).append(value.strip())
    return found


TypedDep = Annotated[dict[str, list[str]], Depends(typed_values)]


def first(typed: Typed, name: str) -> str:
    """The value of a field; '' where it was not sent."""
    values = typed.get(name) or [""]
    return values[0]


def begun(groups: Iterable[FieldGroup]) -> dict[str, list[str]]:
    """What a form begins with before anybody typed."""
    return {field.name: list(field.begins) for group in groups for field in group.fields if field.begins}


def body_from(groups: Iterable[FieldGroup], typed: Typed, method: str = "") -> dict[str, Any]:
    """What was typed as a nested body, of the fields that the method has. Blank fields are left out.

    Raises Invalid where a field that is JSON is none.
    """
    body: dict[str, Any] = {}
    fields = [field for group in groups for field in group.fields if field.belongs_to(method)]
    missing = [
        field.name[:-1] + "."
        for field in fields
        if field.kind == "switch" and first(typed, field.name) != "true"
    ]
    for field in fields:
        if field.name.startswith(tuple(missing)):
            continue
        if field.kind == "switch":
            if first(typed, field.name) == "true":
                _place(body, field.name[:-1], {}, method)
        elif field.kind == "check":
            _place(body, field.name, first(typed, field.name) == "true", method)
        elif field.kind == "checks":
            _place(body, field.name, [value for value in typed.get(field.name, []) if value], method)
        elif value := first(typed, field.name):
            _place(body, field.name, _read(field, value), method)
    return body


def typed_from(groups: Iterable[FieldGroup], body: BaseModel) -> dict[str, list[str]]:
    """What must be typed so that `body_from` gives this body: what a form begins with."""
    values = body.model_dump(mode="json")
    method = (values.get("method") or {}).get("name", "")
    typed: dict[str, list[str]] = {}
    for field in (field for group in groups for field in group.fields):
        if not field.belongs_to(method):
            continue
        found = _find(values, field.name.removesuffix("?"), method)
        if field.kind == "switch":
            typed[field.name] = ["true"] if found is not None else []
        elif field.kind == "check":
            typed[field.name] = ["true"] if found else []
        elif field.kind == "checks":
            typed[field.name] = [str(item) for item in found or []]
        elif found is not None:
            typed[field.name] = [_written(field, found)]
        elif field.may_be_none:
            typed[field.name] = [NONE]
    return typed


def headline_of(error: AppError | EngineError, groups: Iterable[FieldGroup], method: str = "") -> str:
    """What a failure says at the head of its form: which fields are wrong, where each of them says why, or
    all of it."""
    labels = _labels(groups)
    places = [_field_of(problem, list(labels), method) for problem in problems_of(error)]
    if not places or None in places:
        return sentence_of(error)
    wrong = list(dict.fromkeys(labels[place] for place in places if place is not None))
    return f"Not yet: {', '.join(wrong)}. Each of these says beside it what is wrong."


def faults_of(error: AppError | EngineError, groups: Iterable[FieldGroup], method: str = "") -> list[str]:
    """A sentence for everything that is wrong, where no field is there to stand beside."""
    labels = _labels(groups)
    names = list(labels)
    places = [(problem, _field_of(problem, names, method)) for problem in problems_of(error)]
    lines = [_line(problem, labels.get(place or "")) for problem, place in places]
    return list(dict.fromkeys(lines)) or [sentence_of(error)]


def _labels(groups: Iterable[FieldGroup]) -> dict[str, str]:
    """What each field is called on the page."""
    return {field.name: field.label for group in groups for field in group.fields}


def _line(problem: Problem, label: str | None) -> str:
    """A fault as a sentence by itself, behind the name of what it is about."""
    name = label or ".".join(str(part) for part in problem.loc[1:])
    between = "" if not name else " " if problem.msg[:1].islower() else ": "
    return _sentence(f"{name}{between}{problem.msg}")


def words(typed: object) -> list[str]:
    """What was typed with commas between."""
    return [word.strip() for word in str(typed).split(",") if word.strip()]


def shown(
    groups: Iterable[FieldGroup], typed: Typed, errors: Sequence[Problem] = (), method: str = ""
) -> tuple[list[FieldGroup], list[str]]:
    """The groups with what was typed and what is wrong, and the faults that belong to no field.

    A folded group that holds a fault is opened.
    """
    groups = list(groups)
    names = list(_labels(groups))
    told: dict[str, list[str]] = {}
    rest = []
    for problem in errors:
        name = _field_of(problem, names, method)
        if name is None:
            rest.append(_line(problem, None))
        else:
            told.setdefault(name, []).append(problem.msg)
    filled = [
        replace(
            group,
            fields=tuple(_with(field, typed, told, method) for field in group.fields),
            is_open=group.is_open or any(field.name in told for field in group.fields),
        )
        for group in groups
    ]
    return filled, rest


def _with(field: FormField, typed: Typed, told: Mapping[str, list[str]], method: str) -> FormField:
    return replace(
        field,
        is_other=bool(method) and not field.belongs_to(method),
        value=first(typed, field.name),
        chosen=tuple(typed.get(field.name, ())) if field.kind == "checks" else (),
        error=" ".join(_sentence(fault) for fault in told.get(field.name, ())),
    )


def _sentence(fault: str) -> str:
    fault = fault[:1].upper() + fault[1:]
    return fault if fault.endswith((".", "!", "?")) else f"{fault}."


def _path(name: str, method: str) -> list[str]:
    parts = name.split(".")
    return ["method", *parts[1:]] if method and parts[0] == method else parts


def _place(body: dict[str, Any], name: str, value: Any, method: str) -> None:
    *parents, last = _path(name, method)
    for parent in parents:
        body = body.setdefault(parent, {})
    if isinstance(value, dict) and isinstance(body.get(last), dict):
        return
    body[last] = value


def _find(values: Any, name: str, method: str) -> Any:
    for part in _path(name, method):
        if not isinstance(values, Mapping):
            return None
        values = values.get(part)
    return values


def _read(field: FormField, value: str) -> Any:
    if field.may_be_none and value.lower() == NONE:
        return None
    if field.kind not in ("json", "area"):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise Invalid(
            f"{field.label} is no JSON: {value[:60]}. Correct it, or leave it blank.",
            errors=[Problem(("body", *field.name.split(".")), "is no JSON")],
        ) from None


def _written(field: FormField, value: Any) -> str:
    if field.kind in ("json", "area"):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _field_of(problem: Problem, names: Sequence[str], method: str) -> str | None:
    """The field that a fault is about: the longest whose path the fault's place begins with."""
    parts = [str(part) for part in problem.loc[1:]]
    if parts[:1] == ["method"] and len(parts) > 1:
        # Either ("method", "dpo", "beta"), as the choice of methods tells it, or ("method", "beta").
        parts = parts[1:] if parts[1] == method and len(parts) > 2 else [method, *parts[1:]]
    for end in range(len(parts), 0, -1):
        path = ".".join(parts[:end])
        for name in (path, f"{path}?", f"{path}.name"):
            if name in names:
                return name
    return "method.name" if problem.loc[1:2] == ("method",) and "method.name" in names else None
