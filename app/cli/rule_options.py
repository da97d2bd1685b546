"""The options that change a rule, one for every field that the rule and the registered segmenters declare."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args

import typer

from engine.fields import DeclaredField, bare, declared_fields
from engine.rules import SegmentationRule
from engine.segmentation.segmenter import SEGMENTERS, shared_fields

USUAL = next(iter(SEGMENTERS))


def with_rule_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for every field of a rule; they reach its `**options`, None where not given.

    Typer reads options off a signature, which is therefore written here."""
    signature = inspect.signature(command, eval_str=True)
    own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own] + [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _annotations().items()
    ]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
    return command


def changed_rule(default: SegmentationRule, options: Mapping[str, Any]) -> SegmentationRule | None:
    """The rule with what the options change; None where they change nothing. Raises ValidationError."""
    given = {name: value for name, value in options.items() if value is not None}
    changes = {name: value for name, value in given.items() if name in SegmentationRule.model_fields}
    own = {name: value for name, value in given.items() if name not in SegmentationRule.model_fields}
    if own or "segmenter" in given:
        changes["segmenter"] = {"name": given.get("segmenter", USUAL), **own}
    return SegmentationRule.model_validate(default.model_dump() | changes) if changes else None


def _annotations() -> dict[str, Any]:
    """By option: its type and help. An option that several segmenters have tells what it is to the first."""
    found: dict[str, Any] = {
        "segmenter": _annotation(str, f"Rule that cuts: {', '.join(SEGMENTERS)}; default: {USUAL}.")
    }
    for name, shared in shared_fields().items():
        found[name] = _option(shared.declared, f" ({', '.join(shared.segmenters)})")
    for one in declared_fields(SegmentationRule):
        found.setdefault(one.path, _option(one))
    return found


def _option(one: DeclaredField, of: str = "") -> Any:
    choices = ", ".join(one.words) + (
        " or a number" if one.words and float in map(bare, get_args(one.type)) else ""
    )
    sentence = one.sentence.partition(". ")[0].rstrip(".")
    kind = one.type if one.type in (int, float) else str
    return _annotation(kind, f"{sentence}{of}{f': {choices}' if choices else ''}.")


def _annotation(kind: Any, help: str) -> Any:
    return Annotated[kind | None, typer.Option(help=help)]
