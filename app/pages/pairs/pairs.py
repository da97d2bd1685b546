"""The pair page, the main screen: two responses, cut by the rule in the address, again at every change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from markupsafe import Markup
from sqlalchemy.orm import Session

from app.db.tables import Dataset, Pair, Run
from app.dependencies import SessionDep
from app.pages.datasets.table import query_parameters
from app.pages.pairs.addresses import PairAddress, address_of, chosen_rule, cut_pair, read_address
from app.pages.pairs.beside import Beside, SourceAddresses, beside
from app.pages.pairs.labels import panel_of
from app.pages.pairs.pair_labels import LabelsPanel, said_of
from app.pages.pairs.preview import PreviewPanel
from app.pages.parts.highlight import plain
from app.pages.parts.looks import Look, look_query
from app.pages.parts.numbers import count
from app.pages.parts.pair_view import SidePanel, ViewPanel, view_panel
from app.pages.parts.prompts import Turn, turns_of
from app.pages.parts.rendering import Option, PageContext, render, url_of
from app.pages.parts.rule_controls import (
    RuleForm,
    options,
    rule_form,
    rule_query,
    whole_rule_query,
)
from app.pages.parts.scoring_runs import default_run, run_options, scoring_runs
from app.pages.parts.tracks import TrackChoice, choices
from app.services.datasets import datasets
from app.services.datasets.datasets import get_pair
from app.services.pairs import labels, pairs
from app.services.pairs.drawing import token_tracks, tracks_of
from app.services.pairs.labels import Label
from app.services.pairs.pairs import Neighbours
from app.services.scorings import maps, scorings
from app.services.scorings.maps import CutPair
from app.services.trainings import token_maps
from engine.types import SIGN

COLOURS = {"scaled": "scaled reward", "raw": "reward as it is"}

router = APIRouter()


@dataclass(frozen=True, slots=True)
class SourceTab:
    """A source of the run, with what its own rule found of the pair."""

    label: str
    address: str
    is_shown: bool
    conflict: float | None
    margin: float | None


class Export(NamedTuple):
    """A file that holds the pair as it is shown."""

    name: str
    address: str
    hint: str


@dataclass(frozen=True, slots=True)
class Controls:
    """The form that recomputes the view."""

    form: RuleForm
    action: str
    view_action: str
    """Where a refresh of the view alone comes from."""
    reset: str
    carried: list[tuple[str, str]]
    """What the address says besides: run, source, and the table that the pair was opened from."""
    colours: list[Option]
    tracks: list[TrackChoice]
    look: Look
    can_compare: bool
    """Whether the run has several sources."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPage(PageContext):
    """The whole page."""

    key: str
    dataset_name: str
    table_url: str
    prompt: list[Turn]
    runs: list[Option]
    run_carried: list[tuple[str, str]]
    """What another run keeps of the address: the table and the look."""
    sources: list[SourceTab]
    place: str
    previous: str | None
    next: str | None
    controls: Controls | None
    notice: str | None
    notice_url: str | None
    notice_link: str
    view: ViewPanel
    beside: Beside | None = None
    """The pair under every source; None where one is shown."""
    labels: LabelsPanel | None = None
    """What people said; None while there is no segment to speak of."""
    preview: PreviewPanel | None = None
    exports: Sequence[Export] = ()
    elsewhere: Sequence[tuple[str, str]] = ()
    """Other pages that this pair can be taken to: what they are called, and their addresses."""


@dataclass(frozen=True, slots=True)
class PairFragment:
    """What a moved control draws anew."""

    view: ViewPanel
    beside: Beside | None = None
    labels: LabelsPanel | None = None
    exports: Sequence[Export] = ()


@dataclass(frozen=True, slots=True)
class _Shown:
    """What an address shows of a scored pair."""

    view: CutPair
    every: list[CutPair]
    """The pair under every source; empty where one is shown."""


@router.get("/pairs/{pair_id:int}", name="pages:pair")
def show_pair(request: Request, session: SessionDep, pair_id: int) -> Response:
    """The page of a pair, under the run and rule of the address."""
    asked = address_of(request)
    pair = get_pair(session, pair_id)
    dataset = datasets.get_dataset(session, pair.dataset_id)
    runs = scoring_runs(session, dataset.id)
    asked = _with_run(asked, runs)
    if asked.query.run_id is None:
        page = _unscored_page(request, session, pair, dataset, asked)
    else:
        page = _scored_page(request, session, pair, dataset, asked, runs)
    return render(request, "pairs/show.html", page)


@router.get("/pairs/{pair_id:int}/view", name="pages:pair_view")
def show_view(request: Request, session: SessionDep, pair_id: int) -> Response:
    """The view alone, with the address of the page that shows the same."""
    asked = address_of(request)
    shown = _shown(session, pair_id, asked)
    address = url_of(request, "pair", _parameters(asked, shown.view), pair_id=pair_id)
    found = labels.labels_of(session, pair_id)
    fragment = PairFragment(
        _panel(request, shown.view, asked, found),
        _beside(request, shown, asked),
        _labels(request, session, shown.view, asked, found),
        _exports(request, shown.view, asked),
    )
    return render(request, "pairs/_view.html", fragment, headers={"HX-Replace-Url": address})


@router.post("/pairs/{pair_id:int}/rule", name="pages:pair_rule")
def adopt_rule(request: Request, session: SessionDep, pair_id: int) -> Response:
    """Cuts the whole run by the rule of the address, and shows the pair again."""
    asked = address_of(request)
    view = _shown(session, pair_id, asked).view
    scorings.recut(session, view.run.id, view.source.name, view.rule)
    shown = {**query_parameters(asked.query), **look_query(asked.look)}
    return RedirectResponse(url_of(request, "pair", shown, pair_id=pair_id), 303)


@router.get("/pairs/{pair_id:int}/tokens", name="pages:pair_tokens")
def show_tokens(request: Request, session: SessionDep, pair_id: int) -> Response:
    """The stored numbers of every token, for the pointer. They never change, so browsers may ask once."""
    asked = address_of(request)
    view = maps.pair_view(session, pair_id, run_id=asked.run_id, source=asked.query.source)
    body = json.dumps(token_tracks(view), separators=(",", ":"), allow_nan=False).encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def _with_run(asked: PairAddress, runs: Sequence[Run]) -> PairAddress:
    """The address with the data set's newest run filled in where it names none."""
    if asked.query.run_id is not None or not runs:
        return asked
    values = {**asked.values, "run": str(default_run(runs).id)}
    return read_address(values)


def _shown(session: Session, pair_id: int, asked: PairAddress) -> _Shown:
    """The pair as the address wants it cut, and where it wants them, under the other sources too."""
    if not asked.look.beside:
        return _Shown(cut_pair(session, pair_id, asked), [])
    chosen, rule = chosen_rule(session, asked)
    every = maps.pair_views(session, pair_id, run_id=asked.run_id, source=asked.query.source, rule=rule)
    return _Shown(next(view for view in every if view.source.name == chosen.name), every)


def _parameters(asked: PairAddress, view: CutPair, *, elsewhere: bool = False) -> dict[str, Any]:
    """The address of the page that shows this view, or (`elsewhere`) another pair in the same way."""
    table = query_parameters(asked.query)
    look = asked.look.of_another_pair() if elsewhere else asked.look
    return {**table, **rule_query(view.rule, view.source.rule), **look_query(look)}


def _link(request: Request, view: CutPair, asked: PairAddress) -> str:
    """The address that names run, source and the whole rule, so that it shows the same for ever."""
    query = query_parameters(asked.query) | {"run": view.run.id, "source": view.source.name}
    query |= whole_rule_query(view.rule) | look_query(asked.look)
    return url_of(request, "pair", query, pair_id=view.pair.id)


def _panel(request: Request, view: CutPair, asked: PairAddress, found: Sequence[Label]) -> ViewPanel:
    scored = {"run": view.run.id, "source": view.source.name}
    tokens = url_of(request, "pair_tokens", scored, pair_id=view.pair.id)
    rule = rule_query(view.rule, view.source.rule)
    adopt = url_of(request, "pair_rule", _parameters(asked, view), pair_id=view.pair.id)
    return view_panel(
        view,
        asked.look,
        tokens_url=tokens,
        adopt_url=adopt if rule and view.source.numbers.final else None,
        link=_link(request, view, asked),
        said=said_of(view, found),
    )


def _labels(
    request: Request, session: Session, view: CutPair, asked: PairAddress, found: list[Label]
) -> LabelsPanel | None:
    if not view.sides:
        return None
    return panel_of(request, session, view, _present(_parameters(asked, view)), found=found)


def _exports(request: Request, view: CutPair, asked: PairAddress) -> list[Export]:
    """The pair as files, under exactly the run, source, rule and look that are shown."""
    if not view.sides:
        return []
    query = {"run": view.run.id, "source": view.source.name, **whole_rule_query(view.rule)}
    query |= look_query(replace(asked.look, at=None))
    hints = {
        "JSON": "Tokens, tracks, rewards, segments, masks, labels and losses",
        "HTML": "One file that looks like this page and opens offline",
    }
    return [
        Export(
            name,
            url_of(request, "pair_export", {**query, "format": name.lower()}, pair_id=view.pair.id),
            hint,
        )
        for name, hint in hints.items()
    ]


def _present(query: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _beside(request: Request, shown: _Shown, asked: PairAddress) -> Beside | None:
    if not shown.every or not shown.view.sides:
        return None
    run_id, pair_id = shown.view.run.id, shown.view.pair.id
    kept = {**query_parameters(asked.query), **look_query(replace(asked.look, beside=False))}

    def addresses(source: str) -> SourceAddresses:
        scored = {"run": run_id, "source": source}
        page = url_of(request, "pair", {**kept, **scored}, pair_id=pair_id)
        return SourceAddresses(page, url_of(request, "pair_tokens", scored, pair_id=pair_id))

    return beside(shown.every, shown.view.source.name, asked.look, addresses)


def _scored_page(
    request: Request, session: Session, pair: Pair, dataset: Dataset, asked: PairAddress, runs: Sequence[Run]
) -> PairPage:
    shown = _shown(session, pair.id, asked)
    view = shown.view
    table = query_parameters(asked.query)
    carried = [(name, str(value)) for name, value in table.items()]
    look = {name: value for name, value in look_query(asked.look).items() if value is not None}
    kept = {name: value for name, value in table.items() if name not in ("run", "source")} | look
    said = labels.labels_of(session, pair.id)
    panel = _panel(request, view, asked, said) if view.sides else _plain_panel(pair)
    controls = Controls(
        form=rule_form(view.rule, view.source.rule),
        action=url_of(request, "pair", pair_id=pair.id),
        view_action=url_of(request, "pair_view", pair_id=pair.id),
        reset=url_of(request, "pair", table, pair_id=pair.id),
        carried=carried,
        colours=options(COLOURS, asked.look.colour),
        tracks=choices(tracks_of(side.map for side in view.sides), panel.track),
        look=asked.look,
        can_compare=len(view.sources) > 1,
    )
    place = pairs.neighbours(session, pair.id, asked.query)
    return PairPage(
        title=f"{pair.key}, {dataset.name}",
        section="home",
        **_heading(request, pair, dataset, table),
        runs=run_options(runs, view.run),
        run_carried=[(name, str(value)) for name, value in kept.items()],
        sources=_source_tabs(request, session, view, kept),
        **_steps(request, place, _parameters(asked, view, elsewhere=True)),
        controls=controls if view.sides else None,
        notice=None if view.sides else f"Run {view.run.id} has not reached this pair yet.",
        notice_url=None if view.sides else url_of(request, "run", run_id=view.run.id),
        notice_link="Watch the run",
        view=panel,
        beside=_beside(request, shown, asked),
        labels=_labels(request, session, view, asked, said),
        preview=_preview(request, view, asked),
        exports=_exports(request, view, asked),
        elsewhere=[_reads(request, view), *_elsewhere(request, session, pair)],
    )


def _reads(request: Request, view: CutPair) -> tuple[str, str]:
    return (
        "What the model reads",
        url_of(request, "pair_reads", {"run": view.run.id}, pair_id=view.pair.id),
    )


def _elsewhere(request: Request, session: Session, pair: Pair) -> list[tuple[str, str]]:
    playground = ("Change it in the playground", url_of(request, "playground", {"pair": pair.id}))
    training = token_maps.newest_training(session, pair.dataset_id)
    if training is None:
        return [playground]
    run_id, name = training
    checkpoints = url_of(request, "token_map", run_id=run_id, pair_id=pair.id)
    return [playground, (f"Across the checkpoints of {name}", checkpoints)]


def _preview(request: Request, view: CutPair, asked: PairAddress) -> PreviewPanel | None:
    """A place for the table, which comes after the page: it cuts the pair by every density."""
    if not view.sides:
        return None
    action = url_of(request, "pair_preview", pair_id=view.pair.id)
    alone = url_of(request, "pair_preview", _parameters(asked, view), pair_id=view.pair.id)
    return PreviewPanel(action, alone, waits=True)


def _unscored_page(
    request: Request, session: Session, pair: Pair, dataset: Dataset, asked: PairAddress
) -> PairPage:
    table = query_parameters(asked.query)
    return PairPage(
        title=f"{pair.key}, {dataset.name}",
        section="home",
        **_heading(request, pair, dataset, table),
        runs=[],
        run_carried=[],
        sources=[],
        **_steps(request, pairs.neighbours(session, pair.id, asked.query), table),
        controls=None,
        notice="This data set has not been scored yet: there is no reward to show.",
        notice_url=url_of(request, "score", dataset_id=dataset.id),
        notice_link="Score it",
        view=_plain_panel(pair),
        elsewhere=_elsewhere(request, session, pair),
    )


def _source_tabs(
    request: Request, session: Session, view: CutPair, kept: Mapping[str, Any]
) -> list[SourceTab]:
    """The sources of the run. Another source is cut by its own rule, so the shown rule is not carried."""
    scores = pairs.scores_of(session, view.pair.id, view.run.id)
    tabs = []
    for source in view.sources:
        query = {"run": view.run.id, "source": source.name, **kept}
        score = scores.get(source.name)
        tabs.append(
            SourceTab(
                label=source.label,
                address=url_of(request, "pair", query, pair_id=view.pair.id),
                is_shown=source.name == view.source.name,
                conflict=score.conflict if score else None,
                margin=score.margin if score else None,
            )
        )
    return tabs


def _heading(request: Request, pair: Pair, dataset: Dataset, table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "key": pair.key,
        "dataset_name": dataset.name,
        "table_url": url_of(request, "dataset", table, dataset_id=dataset.id),
        "prompt": turns_of(pair),
    }


def _steps(request: Request, place: Neighbours, parameters: Mapping[str, Any]) -> dict[str, Any]:
    def link(pair_id: int | None) -> str | None:
        return None if pair_id is None else url_of(request, "pair", parameters, pair_id=pair_id)

    index = "" if place.index is None else count(place.index + 1)
    total = "" if place.total is None else f" of {count(place.total)}"
    return {
        "place": f"{index}{total}" if index else "not in the table's filter",
        "previous": link(place.previous),
        "next": link(place.next),
    }


def _plain_panel(pair: Pair) -> ViewPanel:
    """The responses as they are, with their labelled spans."""
    engine_pair = pairs.to_preference_pair(pair)
    sides = [
        SidePanel(
            side=side,
            sign="preferred" if SIGN[side] > 0 else "dispreferred",
            summary=[],
            curve=Markup(""),
            text=plain(response.text, response.spans or ()),
            is_empty=not response.text,
        )
        for side, response in engine_pair.sides()
    ]
    return ViewPanel(
        sides=sides,
        figures=[],
        warnings=[],
        legend=None,
        data=Markup("null"),
        tokens_url="",
        mask_view=False,
    )
