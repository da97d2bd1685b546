"""What a request declares of its fields, once: the strict base of requests, and the words that are shown.

A title is `Field(title=...)`, a sentence the docstring under its field, a bound `ge` or `le`; `shown` adds
what pydantic has no place for. The OpenAPI, forms, command line and docs are all made of these.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema

NO_WORDS: Mapping[str, str] = MappingProxyType({})
_BOUNDS = {"gt": "above {}", "ge": "at least {}", "lt": "below {}", "le": "at most {}"}


class StrictModel(BaseModel):
    """A request or a part of one: unknown fields, NaN and infinities are refused, nothing changes later, and
    the docstring under a field describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The schema, whose descriptions also say what null stands for."""
        schema = handler(core_schema)
        for field in handler.resolve_ref_schema(schema).get("properties", {}).values():
            if "const" in field:
                field.setdefault("description", f"Always `{field['const']}`: tells these fields from others.")
            if blank := field.get("blank"):
                field["description"] = f"{field.get('description', '')} Null: {blank}.".strip()
        return schema


def shown(
    *,
    unit: str = "",
    blank: str = "",
    words: Mapping[str, str] = NO_WORDS,
    step: float = 0,
    slider_to: float = 0,
) -> JsonDict:
    """The `json_schema_extra` of a field: its unit, what holds where it is left blank (null), what its
    choices are called, by how much a click changes its number, and where the slider of it ends."""
    facts: JsonDict = {
        "unit": unit,
        "blank": blank,
        "words": dict(words),
        "step": step,
        "slider_to": slider_to,
    }
    return {name: value for name, value in facts.items() if value}


@dataclass(frozen=True, slots=True)
class DeclaredField:
    """A field as its class declares it."""

    path: str
    """Names with dots between, from the request."""
    info: FieldInfo
    value: Any
    """What it is where nobody says; None also where somebody must."""

    @property
    def title(self) -> str:
        """What people call it; its name in words where nobody said."""
        return self.info.title or _in_words(self.path)

    @property
    def sentence(self) -> str:
        """What it is good for; '' where the title says it all."""
        return " ".join((self.info.description or "").split())

    @property
    def unit(self) -> str:
        """What its number counts or measures; '' for none."""
        return str(self._extra("unit", ""))

    @property
    def blank(self) -> str:
        """What null stands for."""
        return str(self._extra("blank", ""))

    @property
    def step(self) -> float:
        """By how much a click changes its number; 0 where nobody said."""
        return float(self._extra("step", 0))

    @property
    def slider_to(self) -> float:
        """Where its slider ends; 0 for a field without one."""
        return float(self._extra("slider_to", 0))

    @property
    def type(self) -> Any:
        """Its annotation without `Annotated` and without None."""
        return bare(self.info.annotation)

    @property
    def is_nullable(self) -> bool:
        """Whether null is a value."""
        return NoneType in get_args(self.info.annotation)

    @property
    def can_be_switched_off(self) -> bool:
        """Whether null is a value, and not the one that it has where it is left out."""
        return self.is_nullable and self.info.default is not None

    @property
    def is_choice(self) -> bool:
        """Whether it holds one of a few words and nothing else."""
        return get_origin(self.type) is Literal

    @property
    def words(self) -> dict[str, str]:
        """Its choices, that of the default first, and what each is called; empty where it has none. Where it
        takes numbers too, the words that it takes."""
        kinds = [self.type, *(bare(one) for one in get_args(self.type))]
        found = [str(value) for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
        words = self._extra("words", {})
        return {
            value: words.get(value, value.replace("_", " "))
            for value in sorted(found, key=lambda value: value != str(self.value))
        }

    @property
    def default(self) -> str:
        """What holds where it is left out, as one types it, or what null stands for; '' for a part."""
        match self.value:
            case None:
                return self.blank
            case BaseModel():
                return ""
            case bool():
                return "true" if self.value else "false"
            case float():
                return f"{self.value:g}"
            case list() | tuple():
                return ", ".join(str(getattr(one, "name", one)) for one in self.value)
        return str(self.value)

    @property
    def bounds(self) -> str:
        """`above 0, at most 1`; '' where any value will do."""
        found = [
            words.format(f"{bound:g}")
            for limit in self.info.metadata
            for name, words in _BOUNDS.items()
            if isinstance(bound := getattr(limit, name, None), int | float) and abs(bound) < 2**53
        ]
        return ", ".join(found)

    @property
    def range(self) -> str:
        """Its choices or its bounds; '' where any value will do."""
        choices = ", ".join(f"`{value}`" for value in self.words)
        others = [bare(one) for one in get_args(self.type)] if get_origin(self.type) is Union else []
        if choices and others:
            return f"{choices}, or a {'number' if float in others else 'list'}"
        return choices or self.bounds

    def _extra(self, name: str, default: Any) -> Any:
        extra = self.info.json_schema_extra
        return extra.get(name, default) if isinstance(extra, dict) else default


def declared(model: type[BaseModel], path: str) -> DeclaredField:
    """The field at the end of the path. Raises KeyError where there is none."""
    *above, last = path.split(".")
    default: Any = None
    for name in above:
        inner = part_of(model.model_fields[name])
        if inner is None:
            raise KeyError(path)
        default, model = _default(model, name, default), inner
    return DeclaredField(path, model.model_fields[last], _default(model, last, default))


def declared_fields(
    model: type[BaseModel], apart: Collection[type] = (), *, under: str = "", default: BaseModel | None = None
) -> Iterator[DeclaredField]:
    """Every field, those of a part instead of it, or behind it where it may be missing.

    Parts of the classes `apart` count as one field. under, default: the path and the value of the part that
    `model` is of a larger request.
    """
    for name, info in model.model_fields.items():
        field = DeclaredField(f"{under}{name}", info, _default(model, name, default))
        inner = part_of(info)
        if inner is None or inner in apart or field.is_nullable:
            yield field
        if inner is not None and inner not in apart:
            yield from declared_fields(inner, apart, under=f"{field.path}.", default=field.value)


@dataclass(frozen=True, slots=True)
class Section:
    """The fields of a request, or of a part of it that has a table of its own."""

    path: str
    """Where in the request they stand, with the name that tells them from others; '' for the request."""
    sentence: str
    fields: tuple[DeclaredField, ...]


def sections(
    model: type[BaseModel],
    apart: Collection[type] = (),
    seen: set[type] | None = None,
    *,
    under: str = "",
    path: str = "",
) -> Iterator[Section]:
    """The fields of a request, and behind them a section for each of the classes that a field may hold.

    apart: parts that have a section, instead of standing among the fields. seen: classes that have been shown
    and count as one field; those of the sections are added.
    """
    seen = set() if seen is None else seen
    among = {*parts(model, {*apart, *seen})}
    fields = tuple(declared_fields(model, {*apart, *seen}, under=under))
    if path:  # What tells a class from others stands in the path.
        fields = tuple(field for field in fields if len(field.words) != 1 or field.path != f"{under}name")
    seen.add(model)
    if fields:
        yield Section(path, " ".join((model.__doc__ or "").split("\n\n")[0].split()), fields)
    for field in fields:
        for inner in _classes_in(field.info.annotation):
            if inner not in seen and inner not in among:
                name = inner.model_fields.get("name")
                told = "" if name is None or name.is_required() else f" {name.default}"
                below = "" if get_origin(field.type) is list else f"{field.path}."
                yield from sections(inner, apart, seen, under=below, path=f"{field.path}{told}")


def parts(model: type[BaseModel], apart: Collection[type]) -> Iterator[type[BaseModel]]:
    """The classes whose fields stand among those of `model`."""
    for info in model.model_fields.values():
        inner = part_of(info)
        if inner is not None and inner not in apart:
            yield inner
            yield from parts(inner, apart)


def _classes_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The classes with fields that a type speaks of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _classes_in(inner)


def _default(model: type[BaseModel], name: str, of: BaseModel | None) -> Any:
    """The value of a field of `model` where nobody says, in a part that is `of` where nobody says."""
    if of is not None:
        return getattr(of, name)
    info = model.model_fields[name]
    return None if info.is_required() else info.get_default(call_default_factory=True)


def part_of(info: FieldInfo) -> type[BaseModel] | None:
    """The class of a field that is a part with fields of its own, which may be missing."""
    found = bare(info.annotation)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def bare(annotation: Any) -> Any:
    """A type without `Annotated` and without None."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        left = [one for one in get_args(annotation) if one is not NoneType]
        return bare(left[0]) if len(left) == 1 else Union[tuple(left)]  # noqa: UP007 -- made at run time
    return annotation


def title_of(model: type[BaseModel], loc: Collection[str | int]) -> str | None:
    """What the field at a place in a request is called; None where no field is there.

    Of a field that may hold several classes, the place goes on with the name of one, as validators write it;
    places in lists are passed over.
    """
    title = None
    inside: list[type[BaseModel]] = [model]
    for part in loc:
        named = [
            one for one in inside if "name" in one.model_fields and one.model_fields["name"].default == part
        ]
        found = next((one.model_fields[str(part)] for one in inside if part in one.model_fields), None)
        if named and len(inside) > 1:
            inside = named
        elif found is not None:
            title = found.title or _in_words(str(part))
            inside = list(_classes_in(found.annotation))
    return title


def _in_words(path: str) -> str:
    """The name of a field as a title."""
    return path.rsplit(".", 1)[-1].strip("_").replace("_", " ").capitalize()
