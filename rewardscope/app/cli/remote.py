"""Commands that speak to a server: `import`, `export`, `datasets`, `models`, `runs`, `jobs`, `token`.

The server is the one of REWARDSCOPE_URL and REWARDSCOPE_TOKEN, else the one that `rewardscope up` starts on
this machine with the same data folder and port.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from rewardscope.app.cli.output import (
    BAD_INPUT,
    ProgressBar,
    err,
    out,
    print_json,
    print_table,
    refuse,
    refusing,
)
from rewardscope.app.cli.serving import DataDir, read_settings
from rewardscope.app.client.errors import RunNotSucceeded, ServerRefused
from rewardscope.app.client.rewardscope import RemoteRun, RewardScope
from rewardscope.app.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
RunId = Annotated[int, typer.Argument(help="Number of the run.")]
Limit = Annotated[int, typer.Option(min=1, help="Most rows that are shown.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command("import")(import_dataset)
    app.command()(export)
    groups: list[tuple[str, str, dict[str, Callable[..., None]]]] = [
        ("datasets", "Data sets on the server.", {"list": list_datasets}),
        ("models", "Models that the server knows.", {"add": add_model, "list": list_models}),
        (
            "runs",
            "What was asked of the server, and what came of it.",
            {"list": list_runs, "show": show_run, "submit": submit_run, "delete": delete_run},
        ),
        (
            "jobs",
            "The work of runs; a job has the number of its run.",
            {"list": list_jobs, "cancel": cancel_job, "retry": retry_job, "logs": job_logs},
        ),
        ("token", "The access token.", {"show": show_token}),
    ]
    for name, help_text, commands in groups:
        group = typer.Typer(help=help_text, no_args_is_help=True)
        for command, function in commands.items():
            group.command(command)(function)
        app.add_typer(group, name=name)


@contextmanager
def _server() -> Iterator[RewardScope]:
    """The server, with its refusals turned into sentences."""
    import httpx

    from rewardscope.app.security import load_token

    settings = read_settings()
    with refusing():
        url, token = server_address(settings), load_token(settings)
    with RewardScope(url, token) as server:
        try:
            yield server
        except ServerRefused as error:
            refuse(error.detail, [f"{' '.join(map(str, fault.loc))}: {fault.msg}" for fault in error.errors])
        except httpx.TransportError:
            refuse(
                f"No server answers at {url}.",
                ["Start one with `rewardscope up`, or set REWARDSCOPE_URL and REWARDSCOPE_TOKEN."],
            )


def server_address(settings: Settings) -> str:
    """Where the server of these settings is."""
    from rewardscope.app.cli.banner import address

    return settings.url or address(settings, settings.port)


# ------------------------------------------------------------------------------------------ data sets, models


def import_dataset(
    file: Annotated[Path, typer.Argument(help="JSONL, JSON, CSV or Parquet, also .gz and .zst.")],
    name: Annotated[str | None, typer.Option(help="Name of the data set; default: the file's.")] = None,
    on_error: Annotated[
        str, typer.Option(help="fail: nothing is stored; skip: bad rows are left out.")
    ] = "fail",
    as_json: Json = False,
) -> None:
    """Bring a file of preference pairs to the server."""
    if on_error not in ("fail", "skip"):
        refuse("--on-error is `fail` or `skip`.")
    if not file.is_file():
        refuse(f"`{file}` is no file.")
    with _server() as server:
        found = server.upload_dataset(file, name=name, on_error=cast(Literal["fail", "skip"], on_error))
    if as_json:
        print_json(found)
    else:
        skipped = f", {found['skipped_count']:,} rows skipped" if found["skipped_count"] else ""
        out.print(
            f"Data set {found['id']}, {found['name']}: {found['pair_count']:,} pairs{skipped}.", markup=False
        )


def list_datasets(limit: Limit = 50, as_json: Json = False) -> None:
    """List data sets, newest first."""
    with _server() as server:
        rows = list(islice(server.datasets(), limit))
    if as_json:
        print_json(rows)
        return
    print_table(
        ["id", "name", "pairs", "responses", "labelled spans", "created"],
        [
            [
                row["id"],
                row["name"],
                row["pair_count"],
                row["response_count"],
                row["annotated"],
                row["created_at"],
            ]
            for row in rows
        ],
        nothing="No data set yet; `rewardscope import FILE` brings one.",
    )


def add_model(
    path: Annotated[str, typer.Argument(help="Folder that the server sees, or a hub name.")],
    name: Annotated[str | None, typer.Option(help="Name in requests; default: the folder's.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a hub name.")] = None,
    as_json: Json = False,
) -> None:
    """Make a model known to the server."""
    local = Path(path)
    with _server() as server:
        found = server.register_model(
            str(local.absolute()) if local.is_dir() else path, name=name, revision=revision
        )
    if as_json:
        print_json(found)
    else:
        out.print(f"Model {found['id']}, {found['name']}: {found['architecture']}.", markup=False)


def list_models(limit: Limit = 50, as_json: Json = False) -> None:
    """List models, newest first."""
    with _server() as server:
        rows = list(islice(server.models(), limit))
    if as_json:
        print_json(rows)
        return
    print_table(
        ["id", "name", "kind", "architecture", "parameters", "context", "path"],
        [
            [row[field] for field in ("id", "name", "kind", "architecture", "parameters", "context", "path")]
            for row in rows
        ],
        nothing="No model yet; `rewardscope models add PATH` makes one known.",
    )


# ------------------------------------------------------------------------------------------------------- runs


def list_runs(
    limit: Limit = 20,
    kind: Annotated[str | None, typer.Option(help="scoring, demo or playground.")] = None,
    status: Annotated[str | None, typer.Option(help="queued, running, succeeded, failed, ...")] = None,
    as_json: Json = False,
) -> None:
    """List runs, newest first."""
    with _server() as server:
        found = list(islice(server.runs(kind=kind, status=status), limit))
    if as_json:
        print_json([run.raw for run in found])
        return
    print_table(
        ["id", "kind", "name", "status", "progress", "created"],
        [[run.id, run.kind, run.name, run.status, _done(run), run.raw["created_at"]] for run in found],
        nothing="No run yet; `rewardscope runs submit DATASET` asks for one.",
    )


def show_run(run_id: RunId, as_json: Json = False) -> None:
    """Show a run with its sources and their figures."""
    with _server() as server:
        run = server.run(run_id)
        sources = server.sources(run_id) if run.kind == "scoring" else []
    if as_json:
        print_json(run.raw | {"sources": sources})
        return
    out.print(f"Run {run.id}, {run.name}: {run.status}, {_done(run)}", markup=False)
    if run.error:
        out.print(run.error["detail"], markup=False)
    if sources:
        print_table(
            ["source", "baseline", "scale", "AUROC of errors"],
            [
                [source["name"], source["rule"]["baseline"], source["rule"]["scale"], _auroc(source)]
                for source in sources
            ],
            nothing="No source.",
        )


def _auroc(source: dict[str, Any]) -> str | None:
    found = (source["localisation"] or {}).get("auroc")
    return None if found is None else f"{found:.3f}"


def submit_run(
    dataset: Annotated[int, typer.Argument(help="Number of the data set.")],
    policy: Annotated[str | None, typer.Option(help="Name, number or path of the policy.")] = None,
    reference: Annotated[str | None, typer.Option(help="Name, number or path of the reference.")] = None,
    reward_model: Annotated[str | None, typer.Option(help="Name, number or path of a reward model.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="A source; repeat for several.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the run is over.")] = False,
    as_json: Json = False,
) -> None:
    """Score a data set on the server."""
    with _server() as server:
        run = server.submit_scoring(
            dataset, policy=policy, reference=reference, reward_model=reward_model, sources=source, name=name
        )
        if wait:
            run = _waited(server, run, quiet=as_json)
    if as_json:
        print_json(run.raw)
    else:
        out.print(f"Run {run.id}, {run.name}: {run.status}.", markup=False)


def _waited(server: RewardScope, run: RemoteRun, *, quiet: bool) -> RemoteRun:
    from rewardscope.engine.types import Progress

    with ProgressBar(quiet=quiet) as bar:

        def show(current: RemoteRun) -> None:
            if current.phase:
                bar.update(Progress(current.phase, current.done, current.total, current.unit))

        try:
            return server.wait(run, on_progress=show)
        except RunNotSucceeded as error:
            err.print(str(error), markup=False)
            raise typer.Exit(BAD_INPUT) from error


def delete_run(run_id: RunId) -> None:
    """Remove a run that is over, with all it left."""
    with _server() as server:
        server.delete_run(run_id)


def export(
    run_id: RunId,
    out_file: Annotated[Path, typer.Option("--out", help="maps.jsonl, maps.parquet or maps.csv.")],
) -> None:
    """Write the reward maps of a run to a file: as `score` does, or without segments as CSV."""
    kind = out_file.suffix.lstrip(".")
    if kind not in ("jsonl", "csv", "parquet"):
        refuse(f"`{out_file}` must end in .jsonl, .csv or .parquet.")
    with _server() as server:
        what = "maps" if kind == "csv" else "records"
        server.download(f"runs/{run_id}/{what}", out_file, cast(Literal["jsonl", "csv", "parquet"], kind))


# ------------------------------------------------------------------------------------------------------- jobs


def list_jobs(
    limit: Limit = 20,
    status: Annotated[str | None, typer.Option(help="queued, running, succeeded, failed, ...")] = None,
    as_json: Json = False,
) -> None:
    """List jobs, newest first: where they run and how far they are."""
    with _server() as server:
        found = list(islice(server.runs(status=status), limit))
    if as_json:
        print_json([run.raw["job"] | {"run_id": run.id} for run in found])
        return
    print_table(
        ["run", "name", "status", "attempt", "phase", "progress", "ETA", "worker"],
        [
            [
                run.id,
                run.name,
                run.status,
                run.raw["job"]["attempt"],
                run.phase,
                _done(run),
                None if run.eta_seconds is None else f"{run.eta_seconds:.0f} s",
                run.raw["job"]["worker_name"],
            ]
            for run in found
        ],
        nothing="No job.",
    )


def cancel_job(run_id: RunId, as_json: Json = False) -> None:
    """Stop a job: at once where it waits, within seconds where it runs."""
    with _server() as server:
        _say(server.cancel(run_id), as_json)


def retry_job(run_id: RunId, as_json: Json = False) -> None:
    """Queue a job again that did not succeed; it goes on after the last rows it stored."""
    with _server() as server:
        _say(server.retry(run_id), as_json)


def job_logs(
    run_id: RunId,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Stay until the job is over.")] = False,
    as_json: Json = False,
) -> None:
    """Print what a job said."""
    with _server() as server:
        for line in server.logs(run_id, follow=follow):
            if as_json:
                print_json(line)
            else:
                typer.echo(f"{line['at'][:19]}  {line['level']:<8}{line['message']}")


def _say(run: RemoteRun, as_json: bool) -> None:
    if as_json:
        print_json(run.raw)
    else:
        waiting = " (asked to stop)" if run.raw["job"]["cancel_requested"] and not run.is_over else ""
        out.print(f"Run {run.id}, {run.name}: {run.status}{waiting}.", markup=False)


def _done(run: RemoteRun) -> str:
    if run.total is None:
        return f"{run.done:,} {run.unit}".strip()
    return f"{run.done:,} of {run.total:,} {run.unit}".strip()


# ------------------------------------------------------------------------------------------------------ token


def show_token(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Print the access token that the server of this data folder asks for."""
    from rewardscope.app.security import load_token

    with refusing():
        token = load_token(read_settings(data_dir=data_dir))
    if as_json:
        print_json({"token": token})
    else:
        typer.echo(token)
