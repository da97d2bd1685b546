"""The playground: a prompt and one or two responses of one's own, scored now and shown as pairs are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Form, Request, Response
from sqlalchemy.orm import Session

from app.db.tables import JobStatus, Run
from app.dependencies import SessionDep, SettingsDep
from app.errors import AppError, Invalid, sentence_of, status_of
from app.pages.pairs.pairs import COLOURS, Controls, SourceTab
from app.pages.parts.form_choices import form_choices
from app.pages.parts.forms import filled, page_number, validated
from app.pages.parts.looks import Look, look_from, look_query
from app.pages.parts.pair_view import ViewPanel, view_panel
from app.pages.parts.prompts import Turn, turns_of
from app.pages.parts.rendering import PageContext, render, see_other, url_of
from app.pages.parts.rule_controls import options, rule_form, rule_from, rule_query, whole_rule_query
from app.pages.parts.run_rows import percent_done
from app.pages.parts.tracks import choices
from app.services.datasets.datasets import get_pair
from app.services.pairs.drawing import token_tracks, tracks_of
from app.services.runs import jobs, runs, workers
from app.services.runs.workers import WorkerState
from app.services.scorings import playground, scores
from app.services.scorings.maps import CutPair
from app.services.scorings.scores import PLAYGROUND, ScoreTextRequest
from engine.errors import EngineError

SHOWN_RUNS = 20
TEXTS = ("prompt", "chosen", "rejected")
QUEUE = "interactive"

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A text that is not scored yet."""

    refresh_url: str
    run_url: str
    cancel_url: str
    is_served: bool
    """Whether a worker is alive that takes such jobs."""
    is_running: bool
    is_stopping: bool
    before: int
    """Jobs that are done before this one."""
    phase: str
    share: int | None


@dataclass(frozen=True, slots=True)
class ScoredText:
    """A line of what was scored before."""

    address: str
    name: str
    models: str
    status: str
    created_at: datetime
    is_shown: bool


@dataclass(frozen=True, slots=True)
class WaitingFragment:
    """What a refresh draws anew while the text is scored."""

    waiting: Waiting


@dataclass(frozen=True, slots=True)
class ViewFragment:
    """What a moved control draws anew."""

    view: ViewPanel
    beside: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaygroundPage(PageContext):
    """The whole page. Those fields that pairs have too feed the partials of the pair page."""

    action: str
    values: dict[str, str]
    causal_models: list[str]
    reward_models: list[str]
    problem: str | None
    failure: str | None
    """Why the text could not be scored."""
    run_id: int | None
    run_url: str | None
    is_served: bool
    waiting: Waiting | None
    kept: list[ScoredText]
    prompt: list[Turn]
    sources: list[SourceTab]
    controls: Controls | None
    view: ViewPanel | None
    beside: None = None


@router.get("/playground", name="pages:playground")
def show_playground(request: Request, session: SessionDep) -> Response:
    """The empty form, or (`?pair=`) one with the texts of a pair."""
    values = playground.latest_models(session)
    pair_id = page_number(request.query_params.get("pair"))
    if pair_id is not None:
        pair = get_pair(session, pair_id)
        row = {"prompt": pair.messages or pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
        values |= _texts(row)
    return render(request, "scorings/playground.html", _page(request, session, values))


@router.post("/playground", name="pages:playground_score")
def score_text(
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    prompt: str = Form(""),
    chosen: str = Form(""),
    rejected: str = Form(""),
    policy: str = Form(""),
    reference: str = Form(""),
    reward_model: str = Form(""),
) -> Response:
    """Queues the text for the warm scorer and leads to the page that waits for it."""
    values = {
        "prompt": _line_ends(prompt),
        "chosen": _line_ends(chosen),
        "rejected": _line_ends(rejected),
        "policy": policy.strip(),
        "reference": reference.strip(),
        "reward_model": reward_model.strip(),
    }
    try:
        body = {name: value for name, value in values.items() if value} | {
            "prompt": _prompt(values["prompt"])
        }
        with session.begin_nested():
            run = scores.submit(session, settings, validated(ScoreTextRequest, body, "body"))
    except (AppError, EngineError) as error:
        page = _page(request, session, values, problem=sentence_of(error))
        return render(request, "scorings/playground.html", page, status=status_of(error))
    return see_other(url_of(request, "playground_run", run_id=run.id))


@router.get("/playground/{run_id:int}", name="pages:playground_run")
def show_run(request: Request, session: SessionDep, run_id: int) -> Response:
    """A text that was scored, under the source, rule and look of the address; or how far it is."""
    run = playground.get_run(session, run_id)
    texts = _texts(run.request["pairs"][0]) | playground.models_of(run)
    return render(request, "scorings/playground.html", _page(request, session, texts, run))


@router.get("/playground/{run_id:int}/waiting", name="pages:playground_waiting")
def show_waiting(request: Request, session: SessionDep, run_id: int) -> Response:
    """How far the text is; once it is scored, or cannot be, it asks for the whole page again."""
    run = playground.get_run(session, run_id)
    fragment = WaitingFragment(_waiting(request, session, run))
    headers = {"HX-Refresh": "true"} if JobStatus(run.job.status).is_over else {}
    return render(request, "scorings/_playground_waiting.html", fragment, headers=headers)


@router.post("/playground/{run_id:int}/cancel", name="pages:playground_cancel")
def cancel_run(request: Request, session: SessionDep, run_id: int) -> Response:
    """Stops the scoring and shows the text again, to be changed or sent once more."""
    jobs.cancel(session, playground.get_run(session, run_id).id)
    return see_other(url_of(request, "playground_run", run_id=run_id))


@router.get("/playground/{run_id:int}/view", name="pages:playground_view")
def show_view(request: Request, session: SessionDep, run_id: int) -> Response:
    """The view alone, with the address of the page that shows the same."""
    values, look = _read(request)
    view = _view(playground.get_run(session, run_id), values)
    fragment = ViewFragment(_panel(request, view, look))
    address = url_of(request, "playground_run", _parameters(view, look), run_id=run_id)
    return render(request, "pairs/_view.html", fragment, headers={"HX-Replace-Url": address})


@router.get("/playground/{run_id:int}/tokens", name="pages:playground_tokens")
def show_tokens(request: Request, session: SessionDep, run_id: int) -> Response:
    """The numbers of every token, for the pointer."""
    values, _ = _read(request)
    view = playground.scored_view(playground.get_run(session, run_id), values.get("source"))
    body = json.dumps(token_tracks(view), separators=(",", ":"), allow_nan=False)
    return Response(body, media_type="application/json", headers={"Cache-Control": "private, no-cache"})


def _read(request: Request) -> tuple[Mapping[str, str], Look]:
    values = filled(request.query_params)
    return values, look_from({name: value for name, value in values.items() if name != "beside"})


def _view(run: Run, values: Mapping[str, str]) -> CutPair:
    """The text as the address wants it cut."""
    plain = playground.scored_view(run, values.get("source"))
    rule = rule_from(values, plain.rule)
    return plain if rule == plain.rule else playground.scored_view(run, plain.source.name, rule)


def _parameters(view: CutPair, look: Look) -> dict[str, Any]:
    source = {"source": view.source.name} if len(view.sources) > 1 else {}
    return {**source, **rule_query(view.rule, view.source.rule), **look_query(look)}


def _panel(request: Request, view: CutPair, look: Look) -> ViewPanel:
    source = {"source": view.source.name}
    run_id = view.run.id
    return view_panel(
        view,
        look,
        tokens_url=url_of(request, "playground_tokens", source, run_id=run_id),
        link=url_of(
            request,
            "playground_run",
            {**source, **whole_rule_query(view.rule), **look_query(look)},
            run_id=run_id,
        ),
    )


def _page(
    request: Request,
    session: Session,
    values: Mapping[str, str],
    run: Run | None = None,
    problem: str | None = None,
) -> PlaygroundPage:
    listed = form_choices(session)
    shown = _shown(request, run)
    blank = dict.fromkeys((*TEXTS, *playground.ROLES), "")
    status = JobStatus(run.job.status) if run else None
    return PlaygroundPage(
        title=f"Playground: run {run.id}" if run else "Playground",
        section="playground",
        action=url_of(request, "playground_score"),
        values={**blank, **values},
        causal_models=listed.causal_models,
        reward_models=listed.reward_models,
        problem=problem,
        failure=_failure(run) if run else None,
        run_id=run.id if run else None,
        run_url=url_of(request, "run", run_id=run.id) if run else None,
        is_served=_is_served(workers.list_workers(session)),
        waiting=_waiting(request, session, run) if run and status and not status.is_over else None,
        kept=[_kept(request, one, run) for one in _newest(session)],
        **shown,
    )


def _shown(request: Request, run: Run | None) -> dict[str, Any]:
    """The fields that show a scored text; blank ones while there is none."""
    if run is None or run.job.status != JobStatus.succeeded or "lanes" not in (run.result or {}):
        return {"prompt": [], "sources": [], "controls": None, "view": None}
    values, look = _read(request)
    view = _view(run, values)
    panel = _panel(request, view, look)
    page = url_of(request, "playground_run", run_id=run.id)
    controls = Controls(
        form=rule_form(view.rule, view.source.rule),
        action=page,
        view_action=url_of(request, "playground_view", run_id=run.id),
        reset=url_of(request, "playground_run", {"source": view.source.name}, run_id=run.id),
        carried=[("source", view.source.name)],
        colours=options(COLOURS, look.colour),
        tracks=choices(tracks_of(side.map for side in view.sides), panel.track),
        look=look,
        can_compare=False,
    )
    return {
        "prompt": turns_of(view.pair),
        "sources": [_tab(request, run, one.name, view, look) for one in view.sources],
        "controls": controls,
        "view": panel,
    }


def _tab(request: Request, run: Run, source: str, shown: CutPair, look: Look) -> SourceTab:
    is_shown = source == shown.source.name
    view = shown if is_shown else playground.scored_view(run, source)
    return SourceTab(
        label=view.source.label,
        address=url_of(request, "playground_run", {"source": source, **look_query(look)}, run_id=run.id),
        is_shown=is_shown,
        conflict=view.agreement.conflict,
        margin=view.agreement.margin,
    )


def _waiting(request: Request, session: Session, run: Run) -> Waiting:
    job = run.job
    return Waiting(
        refresh_url=url_of(request, "playground_waiting", run_id=run.id),
        run_url=url_of(request, "run", run_id=run.id),
        cancel_url=url_of(request, "playground_cancel", run_id=run.id),
        is_served=_is_served(workers.list_workers(session)),
        is_running=job.status == JobStatus.running,
        is_stopping=job.cancel_requested,
        before=playground.before(session, run) if job.status == JobStatus.queued else 0,
        phase=job.phase,
        share=percent_done(job),
    )


def _failure(run: Run) -> str | None:
    match JobStatus(run.job.status):
        case JobStatus.failed | JobStatus.crashed:
            return str((run.job.error or {}).get("detail", "The scoring ended early."))
        case JobStatus.cancelled:
            return "The scoring was cancelled. The text is still here: change it, or score it again."
        case JobStatus.succeeded if "lanes" not in (run.result or {}):
            return "An earlier release scored this text and kept less of it; score it again to see it."
        case _:
            return None


def _newest(session: Session) -> list[Run]:
    return runs.newest_runs(session, kind=PLAYGROUND, limit=SHOWN_RUNS)


def _kept(request: Request, run: Run, shown: Run | None) -> ScoredText:
    return ScoredText(
        address=url_of(request, "playground_run", run_id=run.id),
        name=run.name.removeprefix("Playground: ") or "no prompt",
        models=", ".join(playground.models_of(run).values()),
        status=run.job.status,
        created_at=run.created_at,
        is_shown=shown is not None and shown.id == run.id,
    )


def _is_served(found: list[WorkerState]) -> bool:
    return any(worker.alive and QUEUE in worker.queues for worker in found)


def _texts(row: Mapping[str, Any]) -> dict[str, str]:
    """A row's texts as the form shows them: a conversation as JSON."""
    found = {name: row.get(name) or "" for name in TEXTS}
    return {
        name: text if isinstance(text, str) else json.dumps(text, ensure_ascii=False, indent=1)
        for name, text in found.items()
    }


def _prompt(text: str) -> Any:
    """The prompt as it was typed: a conversation where it is a JSON list of messages, else the text."""
    if not text.lstrip().startswith("["):
        return text
    try:
        found = json.loads(text)
    except ValueError:
        return text
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found) or not found:
        return text
    if any(set(one) != {"role", "content"} for one in found):
        raise Invalid("Each message of a conversation needs exactly `role` and `content`.")
    return found


def _line_ends(text: str) -> str:
    """What was typed: forms send every end of a line as CR LF."""
    return text.replace("\r\n", "\n")
