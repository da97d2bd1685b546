"""A pair over the steps of a training: the same text, coloured by what each checkpoint says of its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from markupsafe import Markup
from sqlalchemy.orm import Session

from app.db.tables import JobStatus, Pair, Run
from app.dependencies import SessionDep
from app.errors import Conflict
from app.pages.parts.forms import filled, page_number
from app.pages.parts.highlight import MarkedResponse, highlight
from app.pages.parts.kind_pages import KIND_PAGES, KindPages, ResultLink, own_page
from app.pages.parts.numbers import MISSING, count, shortened, signed
from app.pages.parts.pair_view import script_json
from app.pages.parts.prompts import Turn, turns_of
from app.pages.parts.rendering import PageContext, render, see_other, url_of
from app.pages.parts.run_rows import percent_done
from app.services.datasets.datasets import get_pair
from app.services.pairs import pairs
from app.services.pairs.drawing import LEVELS
from app.services.pairs.pairs import PairQuery
from app.services.trainings import checkpoints, token_maps
from app.services.trainings.token_maps import TOKEN_MAPS, StepTotals, TokenMaps, TokenMapsBody
from engine.types import SIGN, Side

SUGGESTED = 20
SNIPPET = 90

router = APIRouter()


@dataclass(frozen=True, slots=True)
class StepLine:
    """One step of the training."""

    label: str
    note: str
    """`as it began`, `best`, or nothing."""
    chosen: str
    rejected: str
    margin: str
    address: str
    fragment: str
    is_shown: bool


@dataclass(frozen=True, slots=True)
class MappedSide:
    """One response as the model of a step sees it."""

    side: Side
    sign: str
    total: str
    text: Markup
    is_empty: bool


@dataclass(frozen=True, slots=True)
class TokenMapPanel:
    """The pair at one step: what the slider draws anew."""

    step: str
    lines: list[StepLine]
    sides: list[MappedSide]
    low: str
    high: str
    levels: list[int]
    beta: str
    data: Markup
    """The reward of every token by side, for the pointer."""


@dataclass(frozen=True, slots=True)
class Slider:
    """Chooses a step by its place among those that were read."""

    action: str
    fragment: str
    place: int
    last: int
    labels: list[str]


@dataclass(frozen=True, slots=True)
class ReadingState:
    """A reading that is not there yet, or has failed."""

    refresh_url: str
    run_url: str
    is_active: bool
    phase: str
    share: int | None
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMapPage(PageContext):
    """The whole page."""

    key: str
    pair_url: str
    training_id: int
    training_name: str
    training_url: str
    pairs_url: str
    action: str
    prompt: list[Turn]
    reading: ReadingState | None
    map: TokenMapPanel | None
    slider: Slider | None
    unread: str
    """Which checkpoints came after the reading; empty where it has them all."""


@dataclass(frozen=True, slots=True)
class TokenMapFragment:
    """What a moved slider draws anew."""

    map: TokenMapPanel


@dataclass(frozen=True, slots=True)
class ReadingFragment:
    """What a refresh draws anew while the pair is read."""

    reading: ReadingState


@dataclass(frozen=True, slots=True)
class PairLink:
    """A pair to look at."""

    key: str
    address: str
    prompt: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPairsPage(PageContext):
    """Which pairs to look at across the checkpoints of a training."""

    training_id: int
    training_name: str
    training_url: str
    steps: list[int]
    read: list[PairLink]
    suggested: list[PairLink]
    why: str
    """By what the suggested pairs are in order."""
    action: str
    key: str
    problem: str | None


@router.get("/runs/{run_id:int}/pairs", name="pages:training_pairs")
def show_pairs(request: Request, session: SessionDep, run_id: int) -> Response:
    """Pairs that the checkpoints have read, and pairs that may be worth it; or (`?key=`) on to one."""
    training = token_maps.training_run(session, run_id)
    key = filled(request.query_params).get("key", "")
    found = _with_key(session, training, key) if key else None
    if found is not None:
        return see_other(url_of(request, "token_map", run_id=run_id, pair_id=found.id))
    suggested, why = _suggested(request, session, training)
    page = TrainingPairsPage(
        title=f"Pairs across checkpoints of {training.name}",
        section="runs",
        training_id=run_id,
        training_name=training.name,
        training_url=url_of(request, "run", run_id=run_id),
        steps=[one.step for one in checkpoints.list_checkpoints(session, run_id)],
        read=[
            PairLink(name, url_of(request, "token_map", run_id=run_id, pair_id=pair_id), "", "")
            for pair_id, name in token_maps.read_pairs(session, run_id)
        ],
        suggested=suggested,
        why=why,
        action=url_of(request, "training_pairs", run_id=run_id),
        key=key,
        problem=f"The data set has no pair with the key `{key}`." if key else None,
    )
    return render(request, "trainings/pairs.html", page)


@router.get("/runs/{run_id:int}/pairs/{pair_id:int}", name="pages:token_map")
def show_pair(request: Request, session: SessionDep, run_id: int, pair_id: int) -> Response:
    """The pair at the step of the address, how far its reading is, or the button that asks for it."""
    training = token_maps.training_run(session, run_id)
    pair = get_pair(session, pair_id)
    run = token_maps.latest(session, run_id, pair_id)
    maps = token_maps.maps_of(session, run, pair_id) if _is_read(run) and run is not None else None
    shown = None if maps is None else _shown_step(request, maps)
    page = TokenMapPage(
        title=f"{pair.key} across checkpoints of {training.name}",
        section="runs",
        key=pair.key,
        pair_url=url_of(request, "pair", pair_id=pair_id),
        training_id=run_id,
        training_name=training.name,
        training_url=url_of(request, "run", run_id=run_id),
        pairs_url=url_of(request, "training_pairs", run_id=run_id),
        action=url_of(request, "token_map_read", run_id=run_id, pair_id=pair_id),
        prompt=turns_of(pair),
        reading=None if run is None or maps is not None else _reading(request, run, run_id, pair_id),
        map=None if maps is None or shown is None else _panel(request, session, run_id, maps, shown),
        slider=None if maps is None or shown is None else _slider(request, run_id, maps, shown),
        unread="" if maps is None else _unread(session, run_id, maps),
    )
    return render(request, "trainings/token_map.html", page)


@router.get("/runs/{run_id:int}/pairs/{pair_id:int}/map", name="pages:token_map_step")
def show_step(request: Request, session: SessionDep, run_id: int, pair_id: int) -> Response:
    """The pair at one step alone, with the address of the page that shows the same."""
    maps = token_maps.token_maps(session, run_id, pair_id)
    step = _shown_step(request, maps)
    fragment = TokenMapFragment(_panel(request, session, run_id, maps, step))
    address = url_of(request, "token_map", {"step": step}, run_id=run_id, pair_id=pair_id)
    return render(request, "trainings/_token_map.html", fragment, headers={"HX-Replace-Url": address})


@router.get("/runs/{run_id:int}/pairs/{pair_id:int}/reading", name="pages:token_map_reading")
def show_reading(request: Request, session: SessionDep, run_id: int, pair_id: int) -> Response:
    """How far the reading is; once it is over it asks for the whole page again."""
    run = token_maps.latest(session, run_id, pair_id)
    if run is None:
        raise Conflict("Nobody has asked for this pair yet; open its page and ask.")
    fragment = ReadingFragment(_reading(request, run, run_id, pair_id))
    headers = {"HX-Refresh": "true"} if JobStatus(run.job.status).is_over else {}
    return render(request, "trainings/_token_map_reading.html", fragment, headers=headers)


@router.post("/runs/{run_id:int}/pairs/{pair_id:int}", name="pages:token_map_read")
def read_pair(request: Request, session: SessionDep, run_id: int, pair_id: int) -> Response:
    """Queues the reading, unless one is on its way, and shows how far it is."""
    run = token_maps.latest(session, run_id, pair_id)
    if run is None or JobStatus(run.job.status).is_over:
        token_maps.submit(session, run_id, TokenMapsBody(pair_ids=[pair_id]))
    return see_other(url_of(request, "token_map", run_id=run_id, pair_id=pair_id))


# -------------------------------------------------------------------------------------------- one step


def _is_read(run: Run | None) -> bool:
    return run is not None and run.job.status == JobStatus.succeeded


def _shown_step(request: Request, maps: TokenMaps) -> int:
    """The step of the address, by its number or (`at`, the slider) its place; the last one by default."""
    values = filled(request.query_params)
    place = page_number(values.get("at"))
    if place is not None:
        return maps.steps[min(place, len(maps.steps) - 1)]
    step = page_number(values.get("step"))
    return step if step in maps.steps else maps.steps[-1]


def _panel(request: Request, session: Session, training_id: int, maps: TokenMaps, step: int) -> TokenMapPanel:
    best = {one.step for one in checkpoints.list_checkpoints(session, training_id) if one.is_best}
    totals = next(one for one in maps.totals if one.step == step)
    return TokenMapPanel(
        step=_label(step, maps),
        lines=[
            _line(request, training_id, maps, one, is_best=one.step in best, is_shown=one.step == step)
            for one in maps.totals
        ],
        sides=[
            MappedSide(
                side=side.side,
                sign="preferred, +1" if SIGN[side.side] > 0 else "dispreferred, \N{MINUS SIGN}1",
                total=signed(getattr(totals, side.side)),
                text=highlight(
                    MarkedResponse(
                        text=side.text,
                        starts=side.offsets[:, 0].tolist(),
                        ends=side.offsets[:, 1].tolist(),
                        levels=maps.levels(side, step),
                        eos=side.eos,
                    )
                ),
                is_empty=not side.text,
            )
            for side in maps.sides
        ],
        low=signed(-maps.colouring.clip) if maps.colouring.clip else MISSING,
        high=signed(maps.colouring.clip) if maps.colouring.clip else MISSING,
        levels=list(range(-LEVELS, LEVELS + 1)),
        beta=f"{maps.beta:g}",
        data=script_json({side.side: side.numbers(step) for side in maps.sides}),
    )


def _line(
    request: Request,
    training_id: int,
    maps: TokenMaps,
    one: StepTotals,
    *,
    is_best: bool,
    is_shown: bool,
) -> StepLine:
    where: dict[str, Any] = {"run_id": training_id, "pair_id": maps.pair.id}
    return StepLine(
        label=count(one.step),
        note="as it began" if one.step == 0 else "best" if is_best else "",
        chosen=signed(one.chosen),
        rejected=signed(one.rejected),
        margin=signed(one.margin),
        address=url_of(request, "token_map", {"step": one.step}, **where),
        fragment=url_of(request, "token_map_step", {"step": one.step}, **where),
        is_shown=is_shown,
    )


def _slider(request: Request, training_id: int, maps: TokenMaps, step: int) -> Slider:
    where: dict[str, Any] = {"run_id": training_id, "pair_id": maps.pair.id}
    return Slider(
        action=url_of(request, "token_map", **where),
        fragment=url_of(request, "token_map_step", **where),
        place=maps.steps.index(step),
        last=len(maps.steps) - 1,
        labels=[_label(one, maps) for one in maps.steps],
    )


def _label(step: int, maps: TokenMaps) -> str:
    return "as it began" if step == 0 else f"step {count(step)} of {count(maps.steps[-1])}"


def _unread(session: Session, training_id: int, maps: TokenMaps) -> str:
    later = [one.step for one in checkpoints.list_checkpoints(session, training_id)]
    new = [count(step) for step in later if step not in maps.steps]
    return ", ".join(new)


def _reading(request: Request, run: Run, training_id: int, pair_id: int) -> ReadingState:
    job = run.job
    is_active = not JobStatus(job.status).is_over
    problem = None
    if not is_active:
        problem = (job.error or {}).get("detail") or f"The reading was {job.status}."
    return ReadingState(
        refresh_url=url_of(request, "token_map_reading", run_id=training_id, pair_id=pair_id),
        run_url=url_of(request, "run", run_id=run.id),
        is_active=is_active,
        phase=job.phase or ("waits for a worker" if job.status == JobStatus.queued else ""),
        share=percent_done(job),
        problem=problem,
    )


# ------------------------------------------------------------------------------------------ which pairs


def _with_key(session: Session, training: Run, key: str) -> Pair | None:
    """The pair of the training's data set that somebody named."""
    if training.dataset_id is None:
        return None
    page = pairs.list_pairs(session, training.dataset_id, PairQuery(query=key), limit=50)
    return next((row.pair for row in page.items if row.pair.key == key), None)


def _suggested(request: Request, session: Session, training: Run) -> tuple[list[PairLink], str]:
    """Pairs that contradict themselves most, by the run that masks them; else the first ones."""
    if training.dataset_id is None:
        return [], ""
    scored: Mapping[str, Any] | None = training.request.get("scoring_run")
    query, why = PairQuery(), "the first of the data set"
    if scored and token_maps.is_there(session, scored["id"]):
        query = PairQuery(run_id=scored["id"], source=scored["source"], sort="conflict")
        why = "those that contradict themselves most, by the rewards that mask the training"
    rows = pairs.list_pairs(session, training.dataset_id, query, limit=SUGGESTED).items
    return [
        PairLink(
            key=row.pair.key,
            address=url_of(request, "token_map", run_id=training.id, pair_id=row.pair.id),
            prompt=shortened(_last_words(row.pair), SNIPPET),
            note="" if row.score is None or row.score.conflict is None else f"{row.score.conflict:.0%}",
        )
        for row in rows
    ], why


def _last_words(pair: Pair) -> str:
    return (pair.prompt or "") if not pair.messages else str(pair.messages[-1].get("content", ""))


def _result(request: Request, run: Run) -> ResultLink | None:
    """Where the first pair of the run is seen."""
    if not run.result:
        return None
    training, pair = run.request["training"]["id"], run.request["pairs"][0]["id"]
    address = url_of(request, "token_map", run_id=training, pair_id=pair)
    return ResultLink(address, "Open the token map")


def _address(request: Request, run: Run) -> str:
    result = _result(request, run)
    return own_page(request, run) if result is None else result.address


KIND_PAGES.register(KindPages(name=TOKEN_MAPS, result=_result, address=_address))
