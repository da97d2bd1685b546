"""`--fields`: what a request may hold, as its classes declare it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from pydantic import BaseModel
from rich.markup import escape

from app.cli.output import out
from engine.fields import DeclaredField, sections


def fields_option(body: Callable[[], type[BaseModel]]) -> Any:
    """An option that lists the fields of `body`, which is asked for only then, and ends the command."""

    def tell(is_given: bool) -> None:
        if is_given:
            print_fields(body())
            raise typer.Exit

    return typer.Option(
        "--fields", help="List every field with its default, and leave.", is_eager=True, callback=tell
    )


def print_fields(body: type[BaseModel]) -> None:
    """Every field on a line, and what it is good for on the next."""
    from engine.rules import SegmentationRule
    from engine.types import ModelReference

    for section in sections(body, (SegmentationRule, ModelReference)):
        if section.path:
            out.print(f"\n[bold]{escape(section.path)}[/]: {escape(section.sentence)}")
        for field in section.fields:
            out.print(f"[bold]{escape(field.path)}[/]  {escape(_facts(field))}")
            if field.sentence:
                out.print(f"    {escape(field.sentence)}")


def _facts(field: DeclaredField) -> str:
    """Title, unit, default and range of a field, with commas between."""
    default = "required" if field.info.is_required() else field.default and f"default: {field.default}"
    return "; ".join(filter(None, (field.title, field.unit, default, field.range.replace("`", ""))))
