"""`inspect`: what would be read of a file or a model, before anything is done with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.text import Text

from app.cli.formats import ChosenByOption, SplitOption
from app.cli.output import Exit, missing_packages, out, print_json, refuse, refusing, settle_libraries
from app.cli.server import Json
from engine.errors import ModelError
from engine.inspection.model_files import ModelSeen, Reading, seen_of
from engine.inspection.rows import RowsSeen, inspect_rows, turns_of
from engine.model_files import inspect_model
from engine.places import place
from engine.types import ModelReference, PreferencePair


def register(app: typer.Typer) -> None:
    """Adds the command of this module."""
    app.command("inspect")(inspect)


def inspect(
    path: Annotated[str, typer.Argument(help="A file or folder of preference pairs, or a model.")],
    model: Annotated[
        str | None, typer.Option(help="Folder or hub name of a model: shows the rows as its template does.")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="Rows that are shown.")] = 3,
    chosen_by: ChosenByOption = None,
    split: SplitOption = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let this very model run code of its own.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what would be read of a file of pairs, or of a model: nothing is stored."""
    where = place(path)
    if where.is_file() or (where.is_dir() and not _is_model(where)):
        show_rows(
            where,
            chosen_by=chosen_by,
            split=split,
            model=model,
            count=rows,
            trusted=trust_remote_code,
            as_json=as_json,
        )
        return
    if not where.is_dir() and (where.is_absolute() or path.count("/") > 1 or path.startswith(".")):
        refuse(f"`{path}` does not exist; name a file of pairs, or a model.", status=Exit.NOT_FOUND)
    for_rows = {"--model": model, "--chosen-by": chosen_by, "--split": split}
    without_effect = [name for name, value in for_rows.items() if value is not None]
    if without_effect:
        refuse(f"`{path}` is no file or folder of pairs, for which {', '.join(without_effect)} is meant.")
    _show_model(ModelReference(path=path, trust_remote_code=trust_remote_code), as_json)


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file()


def show_rows(
    path: Path,
    *,
    chosen_by: str | None = None,
    split: str | None = None,
    model: str | None = None,
    count: int = 3,
    trusted: bool = False,
    as_json: bool = False,
) -> None:
    """Prints what would be read of a file or folder of pairs."""
    with refusing():
        seen = inspect_rows(path, chosen_by=chosen_by, split=split, first=count)
        odd, read = seen.odd, None
        if model is not None:
            settle_libraries()
            from engine.conversations import about_tools
            from engine.inspection.models import load_any, readings

            tokenizer = load_any(ModelReference(path=model, trust_remote_code=trusted)).tokenizer
            read = [one for pair in seen.first for one in readings(pair, tokenizer)]
            odd += about_tools(model, tokenizer, seen.with_tools)
    if as_json:
        rendered = None if read is None else [one.as_row() for one in read]
        print_json({"path": str(path), **seen.as_row(), "odd": odd, "rendered": rendered})
        return
    _print_rows(path, seen)
    _print_odd(odd)
    for error in seen.refusals:
        out.print(f"  line {error.line}: {error.reason}", markup=False)
    if read is None:
        for pair in seen.first:
            _print_pair(pair)
    for one in read or ():
        _print_reading(f"row {one.key}, {one.side}", one)


def _show_model(reference: ModelReference, as_json: bool) -> None:
    with refusing():
        seen = _seen(reference)
    if as_json:
        print_json(seen.as_row())
    else:
        _print_model(seen)
        if seen.reading is not None:
            out.print(seen.reading, highlight=False, soft_wrap=True)
        _print_odd(seen.odd)
        if seen.example is not None:
            _print_reading("a conversation as its chat template writes it", seen.example)
    if seen.refusal is not None:
        refuse(seen.refusal)


def _seen(reference: ModelReference) -> ModelSeen:
    """The model with all that there is to tell; what its files tell where it is not or cannot be loaded."""
    seen = seen_of(inspect_model(reference))
    missing = missing_packages()
    if missing is not None:
        return replace(
            seen, odd=[f"Only its files were looked at, neither weights nor chat template: {missing}"]
        )
    settle_libraries()
    from engine.inspection.models import inspect_loaded, load_any

    try:
        return inspect_loaded(load_any(reference))
    except ModelError as error:
        return replace(seen, refusal=str(error))


def _print_rows(path: Path, seen: RowsSeen) -> None:
    formats = (
        ", ".join(f"{name} ({count:,} of {seen.rows:,} rows)" for name, count in seen.row_formats.items())
        or "none"
    )
    _print_facts(
        {
            "file": f"{path}, {seen.file_type}",
            "row format": formats,
            "columns read": ", ".join(seen.used) or "none",
            "columns left": ", ".join(seen.left) or "none",
            "rows": f"{seen.rows:,}; pairs: {seen.pairs:,}, single responses: "
            f"{seen.rows - seen.refused - seen.pairs:,}, refused: {seen.refused:,}",
            "labelled spans": f"{seen.labelled:,} rows",
            "token rewards": f"{seen.rewarded:,} rows",
        }
    )


def _print_model(seen: ModelSeen) -> None:
    context = "no limit named" if seen.context is None else f"{seen.context:,} tokens"
    _print_facts(
        {
            "model": f"{seen.path}, {seen.architecture} ({seen.kind.replace('_', ' ')})",
            "parameters": f"{seen.parameters:,}, stored as {seen.dtype}",
            "vocabulary": f"{seen.vocab_size:,} tokens",
            "context": context,
            "chat template": "yes" if seen.has_chat_template else "no",
            "BOS, EOS, padding": ", ".join(one or "none" for one in (seen.bos, seen.eos, seen.pad)),
            "a turn ends with": " or ".join(seen.ends) or "nothing",
        }
    )


def _print_facts(facts: dict[str, str]) -> None:
    width = max(map(len, facts))
    for name, value in facts.items():
        out.print(f"{name:<{width}}  {value}", markup=False, highlight=False, soft_wrap=True)


def _print_odd(odd: list[str]) -> None:
    for sentence in odd:
        out.print(f"[yellow]![/yellow] {escape(sentence)}", highlight=False, soft_wrap=True)


def _print_pair(pair: PreferencePair) -> None:
    out.print(f"\n--- row {pair.key}", markup=False)
    for turn in turns_of(pair):
        style = "bold" if turn.is_answer else "dim"
        out.print(Text.assemble((f"{turn.who}: ", "cyan"), (turn.text, style)), soft_wrap=True)


def _print_reading(title: str, one: Reading) -> None:
    """The exact text, the response between marks that also show without colour."""
    out.print(f"\n--- {title}: the response stands between ⟦ and ⟧, with what ends its turn", markup=False)
    parts = ((one.before, "dim"), ("⟦", "cyan"), (one.response, "bold"), (one.ending, "green"), ("⟧", "cyan"))
    out.print(Text.assemble(*parts, (one.after, "dim")), soft_wrap=True)
