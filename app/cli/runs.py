"""`runs`, `jobs` and `export`: what was asked of the server, how far it is, and what came of it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from app.cli.output import Exit, ProgressBar, err, out, print_json, print_table, refuse
from app.cli.server import Json, Limit, add_group, server_at_hand
from rewardscope.client import RemoteRun, RewardScope
from rewardscope.errors import RunNotSucceeded

RunId = Annotated[int, typer.Argument(help="Number of the run.")]


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command()(export)
    add_group(
        app,
        "runs",
        "What was asked of the server, and what came of it.",
        {
            "list": list_runs,
            "show": show_run,
            "submit": submit_run,
            "metrics": show_metrics,
            "checkpoints": list_checkpoints,
            "delete": delete_run,
        },
    )
    add_group(
        app,
        "jobs",
        "The work of runs; a job has the number of its run.",
        {"list": list_jobs, "cancel": cancel_job, "retry": retry_job, "logs": job_logs},
    )


def list_runs(
    limit: Limit = 20,
    kind: Annotated[str | None, typer.Option(help="Such as scoring, training or evaluation.")] = None,
    status: Annotated[str | None, typer.Option(help="queued, running, succeeded, failed, ...")] = None,
    as_json: Json = False,
) -> None:
    """List runs, newest first."""
    with server_at_hand() as server:
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
    with server_at_hand() as server:
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
        floor = ((run.raw.get("result") or {}).get("surprisal") or {}).get("auroc")
        if floor is not None:
            out.print(f"AUROC of surprisal, the floor for every source: {floor:.3f}.")
        for source in sources:
            if source["reason"]:
                out.print(f"The rule of {source['name']} is {source['reason']}.", markup=False)
            for sentence in source["warnings"]:
                err.print(f"[yellow]warning:[/] {source['name']}: {sentence}")


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
    with server_at_hand() as server:
        run = server.submit_scoring(
            dataset, policy=policy, reference=reference, reward_model=reward_model, sources=source, name=name
        )
        if wait:
            run = waited(server, run, quiet=as_json)
    if as_json:
        print_json(run.raw)
    else:
        out.print(f"Run {run.id}, {run.name}: {run.status}.", markup=False)


def waited(server: RewardScope, run: RemoteRun, *, quiet: bool) -> RemoteRun:
    """The run once it succeeded, with a bar meanwhile; ends the command where it does not."""
    from engine.types import Progress

    with ProgressBar(quiet=quiet) as bar:

        def show(current: RemoteRun) -> None:
            if current.phase:
                bar.update(Progress(current.phase, current.done, current.total, current.unit))

        try:
            return server.wait(run, on_progress=show)
        except RunNotSucceeded as error:
            err.print(str(error), markup=False)
            raise typer.Exit(Exit.RUN_FAILED) from error


def delete_run(run_id: RunId) -> None:
    """Remove a run that is over, with all it left."""
    with server_at_hand() as server:
        server.delete_run(run_id)


def show_metrics(
    run_id: RunId,
    name: Annotated[list[str] | None, typer.Option(help="A curve; repeat for several.")] = None,
    since: Annotated[int, typer.Option(min=-1, help="Only points of later steps.")] = -1,
    as_json: Json = False,
) -> None:
    """Show the last value of every curve of a training; with --json their points."""
    with server_at_hand() as server:
        found = server.metrics(run_id, name, since=since)
    if as_json:
        print_json(found)
        return
    print_table(
        ["curve", "step", "last", "least", "greatest", "points"],
        [
            [
                called,
                curve["steps"][-1],
                *(
                    f"{value:.5g}"
                    for value in (curve["values"][-1], min(curve["values"]), max(curve["values"]))
                ),
                curve["points"],
            ]
            for called, curve in sorted(found.items())
        ],
        nothing="No curve.",
    )


def list_checkpoints(run_id: RunId, as_json: Json = False) -> None:
    """List the checkpoints of a training that are on disk."""
    with server_at_hand() as server:
        found = server.checkpoints(run_id)
    if as_json:
        print_json(found)
        return
    print_table(
        ["step", "best", "MiB", "figures", "folder"],
        [
            [
                one["step"],
                "best" if one["is_best"] else None,
                f"{one['bytes'] / 2**20:.1f}",
                ", ".join(f"{called} {value:.4g}" for called, value in sorted(one["metrics"].items())),
                one["path"],
            ]
            for one in found
        ],
        nothing="No checkpoint.",
    )


def export(
    run_id: RunId,
    out_file: Annotated[Path, typer.Option("--out", help="maps.jsonl, maps.parquet or maps.csv.")],
) -> None:
    """Write the reward maps of a run to a file: as `score` does, or without segments as CSV."""
    kind = out_file.suffix.lstrip(".")
    if kind not in ("jsonl", "csv", "parquet"):
        refuse(f"`{out_file}` must end in .jsonl, .csv or .parquet.")
    with server_at_hand() as server:
        what = "maps" if kind == "csv" else "records"
        server.download(f"runs/{run_id}/{what}", out_file, cast(Literal["jsonl", "csv", "parquet"], kind))


# ------------------------------------------------------------------------------------------------------- jobs


def list_jobs(
    limit: Limit = 20,
    status: Annotated[str | None, typer.Option(help="queued, running, succeeded, failed, ...")] = None,
    as_json: Json = False,
) -> None:
    """List jobs, newest first: where they run and how far they are."""
    with server_at_hand() as server:
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
    with server_at_hand() as server:
        _say(server.cancel(run_id), as_json)


def retry_job(run_id: RunId, as_json: Json = False) -> None:
    """Queue a job again that did not succeed; it goes on after the last rows it stored."""
    with server_at_hand() as server:
        _say(server.retry(run_id), as_json)


def job_logs(
    run_id: RunId,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Stay until the job is over.")] = False,
    as_json: Json = False,
) -> None:
    """Print what a job said."""
    with server_at_hand() as server:
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
