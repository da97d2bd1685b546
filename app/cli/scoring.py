"""`score` and `segment`: files in, files out, without a server."""

from __future__ import annotations

import json
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from app.cli.formats import ChosenByOption, SplitOption
from app.cli.output import (
    ProgressBar,
    complaints,
    err,
    out,
    print_json,
    print_table,
    refuse,
    refusing,
    settle_libraries,
    tidy_end,
)
from app.cli.rule_options import changed_rule, with_rule_options
from engine.errors import RowsRefused
from engine.formats.listing import file_sentence
from engine.kept import MaskFigures
from engine.requests import ScoreRequest, SourceRequest
from engine.rules import SegmentationRequest, SegmentationRule
from engine.sources import SOURCES, default_sources
from engine.types import ModelReference


class OnError(StrEnum):
    """What a refused row does."""

    fail = "fail"  # nothing is written
    skip = "skip"  # the row is left out and named


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(with_rule_options(score))
    app.command()(segment)


def score(
    file: Annotated[Path, typer.Argument(help=f"Preference pairs: {file_sentence()}, or a folder.")],
    out_file: Annotated[Path, typer.Option("--out", help="maps.jsonl (also .gz, .zst) or maps.parquet.")],
    policy: Annotated[str | None, typer.Option(help="Folder or hub name of the policy.")] = None,
    reference: Annotated[str | None, typer.Option(help="Folder or hub name of the reference.")] = None,
    reward_model: Annotated[str | None, typer.Option(help="Folder or hub name of a reward model.")] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Source of token rewards: {', '.join(SOURCES)}. Repeat for several; default: all that the "
            "models allow."
        ),
    ] = None,
    beta: Annotated[float, typer.Option(help="beta of the implicit reward.")] = 0.1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    token_budget: Annotated[int, typer.Option(help="Tokens in one forward pass.")] = 8192,
    max_response_tokens: Annotated[int, typer.Option(help="A longer response is refused.")] = 16_384,
    template_date: Annotated[
        str | None, typer.Option(help="The day (YYYY-MM-DD) that chat templates take for today.")
    ] = None,
    chosen_by: ChosenByOption = None,
    split: SplitOption = None,
    on_error: Annotated[OnError, typer.Option(help="What a bad row does.")] = OnError.fail,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let these very models run code of their own.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON document.")] = False,
    **rule_options: Any,
) -> None:
    """Score preference pairs into token rewards, pivots, segments and masks, one line a response."""
    with refusing():
        models = {
            "policy": policy,
            "reference": reference,
            "reward_model": reward_model,
        }
        names = source or default_sources([need for need, given in models.items() if given is not None])
        if not names:
            refuse(
                "Name models to score with: --policy and --reference, or --reward-model; rows that bring "
                "token rewards with their tokens need none: --source external, or implicit of logprobs and "
                "ref_logprobs."
            )
        try:
            request = ScoreRequest.model_validate(
                {
                    "policy": _model(policy, trust_remote_code),
                    "reference": _model(reference, trust_remote_code),
                    "reward_model": _model(reward_model, trust_remote_code),
                    "sources": [
                        SourceRequest.model_validate({"name": name, "rule": _rule(name, rule_options)})
                        for name in names
                    ],
                    "beta": beta,
                    "device": device,
                    "dtype": dtype,
                    "token_budget": token_budget,
                    "max_response_tokens": max_response_tokens,
                    "template_date": template_date,
                }
            )
        except ValidationError as error:
            refuse("These options do not fit together.", complaints(error, "request"))
        _score(file, out_file, request, on_error, chosen_by, split, as_json)


def _score(
    file: Path,
    out_file: Path,
    request: ScoreRequest,
    on_error: OnError,
    chosen_by: str | None,
    split: str | None,
    as_json: bool,
) -> None:
    if not file.exists():
        refuse(f"`{file}` does not exist; name a file or a folder of preference pairs.")
    if not out_file.absolute().parent.is_dir():
        refuse(f"`{out_file.parent}` is no folder; make it first.")
    settle_libraries()
    from engine.jobs.score_file import score_file

    started = time.monotonic()
    with tidy_end(), ProgressBar(quiet=as_json) as bar:
        try:
            result = score_file(
                file,
                out_file,
                request,
                bar.report,
                on_error=on_error.value,
                chosen_by=chosen_by,
                split=split,
            )
        except RowsRefused as error:
            refuse(str(error), [str(row) for row in error.rows[:20]])
    result["seconds"] = round(time.monotonic() - started, 3)
    if as_json:
        print_json(result)
    else:
        _print_figures(result)


def _print_figures(result: dict[str, Any]) -> None:
    out.print(
        f"{result['responses']:,} responses of {result['pairs']:,} pairs in {result['seconds']:.1f} s"
        + (f", {result['skipped']:,} rows skipped" if result["skipped"] else "")
        + f" -> {result['out']}"
    )
    print_table(
        [
            "source",
            "tokens",
            "mean",
            "std",
            "pivots/response",
            "kept chosen",
            "kept rejected",
            "AUROC of errors",
        ],
        [
            [
                name,
                f"{figures['tokens']:,}",
                _figure(figures["mean"]),
                _figure(figures["std"]),
                _figure(figures["pivots_per_response"]),
                _figure(figures["kept_chosen"]),
                _figure(figures["kept_rejected"]),
                _figure(figures["auroc"]),
            ]
            for name, figures in result["sources"].items()
        ],
        nothing="No source.",
    )
    if result["surprisal"] is not None:
        out.print(f"AUROC of surprisal, the floor for every source: {result['surprisal']:.3f}.")
    for name, figures in result["sources"].items():
        kept = MaskFigures.from_dict(figures)
        out.print(f"The rule of {name} is {figures['reason']}. It {kept.sentence()}.", markup=False)
        for sentence in kept.warnings():
            err.print(f"[yellow]warning:[/] {name}: {sentence}")


def segment(
    file: Annotated[
        Path,
        typer.Argument(
            help="A JSON file with the body of POST /api/v1/segmentations; - reads standard input."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Cut one response's token rewards into segments and a mask."""
    body = _read_json(file)
    try:
        request = SegmentationRequest.model_validate(body)
    except ValidationError as error:
        refuse(f"`{file}` is no segmentation request.", complaints(error, "request"))
    with refusing():
        from engine.masks import answer

        found = answer(request)
    if as_json:
        print_json(found)
        return
    print_table(
        ["segment", "tokens", "polarity", "reward", "kept"],
        [
            [
                number,
                f"{one['start']}-{one['end'] - 1}",
                {1: "+", -1: "-", 0: "0"}[one["polarity"]],
                _figure(one["reward"]),
                f"{sum(found['mask'][one['start'] : one['end']])} of {one['end'] - one['start']}",
            ]
            for number, one in enumerate(found["segments"])
        ],
        nothing="No segment.",
    )
    out.print(f"pivots      {', '.join(map(str, found['pivots'])) or 'none'}")
    out.print(f"candidates  {', '.join(map(str, found['candidates'])) or 'none'}")


def _read_json(file: Path) -> Any:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        return json.loads(text, parse_constant=_no_constant)
    except OSError as error:
        refuse(f"`{file}` cannot be read: {error.strerror}.")
    except UnicodeDecodeError:
        refuse(f"`{file}` is no UTF-8 text.")
    except ValueError as error:
        refuse(f"`{file}` is no JSON: {error}.")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number; write null where a reward is missing")


def _model(path: str | None, trust: bool) -> ModelReference | None:
    return None if path is None else ModelReference(path=path, trust_remote_code=trust)


def _rule(source: str, options: dict[str, Any]) -> SegmentationRule | None:
    """The source's own rule with what the options change; None where they change nothing."""
    return changed_rule(SOURCES[source].default_rule, options) if source in SOURCES else None


def _figure(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
