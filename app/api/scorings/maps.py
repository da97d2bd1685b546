"""What a run found: reward maps, the numbers of its sources, and its segments across all responses."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import Header, Query
from sqlalchemy.orm import Session
from starlette.responses import Response

from app.api.parts import lists
from app.api.parts.common import Id, View, door
from app.api.parts.lists import Listing, PagingDep
from app.dependencies import DatabaseDep, SessionDep
from app.problems import responses
from app.services.paging import Page
from app.services.scorings import maps, scorings, segments
from app.services.scorings.maps import MapView, RunSource
from app.services.scorings.segments import SegmentRow
from engine.formats.maps import token_texts
from engine.rules import SegmentationRule
from engine.sources import SourceName
from engine.types import Side, missing_to_null, ranks_to_null

Track = list[float | None]
BATCH = 32
"""Responses that a file is made of at a time: a long one is some megabytes as lists of numbers."""


class RewardMapView(View):
    """All that scoring knows of one response. Lists have one entry a token; null is a missing number."""

    pair_id: int
    id: str
    """The user's name for the row."""
    side: Side
    text: str
    tokens: list[str]
    token_ids: list[int]
    offsets: list[tuple[int, int]]
    """Code points [start, end) of every token in `text`."""
    eos: str | None
    prompt_tokens: int
    truncated_prompt_tokens: int
    logprobs: Track | None
    reference_logprobs: Track | None
    entropies: Track | None
    ranks: list[int | None] | None
    token_rewards: dict[str, Track]
    """By source."""
    totals: dict[str, float | None]
    """By source: the reward of the whole response."""

    @classmethod
    def of(cls, view: MapView) -> RewardMapView:
        """The view of a stored map."""
        found = view.map
        return cls(
            pair_id=view.pair_id,
            id=found.key,
            side=found.side,
            text=view.text,
            tokens=token_texts(view.text, found.offsets, found.eos),
            token_ids=found.token_ids.tolist(),
            offsets=[(start, end) for start, end in found.offsets.tolist()],
            eos=found.eos,
            prompt_tokens=found.prompt_tokens,
            truncated_prompt_tokens=found.truncated_prompt_tokens,
            logprobs=_track(found.logprobs),
            reference_logprobs=None
            if found.reference_logprobs is None
            else missing_to_null(found.reference_logprobs),
            entropies=_track(found.entropies),
            ranks=None if found.ranks is None else ranks_to_null(found.ranks),
            token_rewards={source: missing_to_null(track) for source, track in found.rewards.items()},
            totals={source: missing_to_null([total])[0] for source, total in found.totals.items()},
        )


router = door("runs")


@router.get("/{run_id}/sources")
def read_sources(run_id: Id, session: SessionDep) -> list[RunSource]:
    """The sources of a scoring run with their numbers: the baselines and scales that masks are made with."""
    return maps.sources_of(session, run_id)


@router.put("/{run_id}/sources/{source}/rule", responses=responses(409))
def cut_again(run_id: Id, source: SourceName, rule: SegmentationRule, session: SessionDep) -> RunSource:
    """Cuts the whole run by another rule, from stored rewards: segments, pair scores and records follow it.

    Takes some ten seconds for 100,000 pairs; nothing changes until all of it has.
    """
    scorings.recut(session, run_id, source, rule)
    return next(one for one in maps.sources_of(session, run_id) if one.name == source)


@router.get("/{run_id}/maps", response_model=Listing[RewardMapView], responses=lists.FILES)
def list_maps(run_id: Id, paging: PagingDep, database: DatabaseDep) -> Any:
    """Reward maps of a run, in the order of its rows."""

    def fetch(session: Session, limit: int, cursor: str | None) -> Page[RewardMapView]:
        page = maps.list_maps(session, run_id, limit=limit, cursor=cursor)
        return Page([RewardMapView.of(view) for view in page.items], page.next_cursor, page.total)

    return lists.answer(database, paging, fetch, RewardMapView, f"maps-{run_id}", BATCH)


@router.get(
    "/{run_id}/maps/{pair_id}/{side}",
    response_model=RewardMapView,
    responses={304: {"description": "You have this map already."}},
)
def read_map(
    run_id: Id,
    pair_id: Id,
    side: Side,
    session: SessionDep,
    if_none_match: Annotated[str | None, Header(description="An ETag that you have.")] = None,
) -> Response:
    """One reward map. It never changes, so its ETag holds for ever."""
    body = RewardMapView.of(maps.get_map(session, run_id, pair_id, side)).model_dump_json().encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if _matches(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


@router.get("/{run_id}/segments", response_model=Listing[SegmentRow], responses=lists.FILES)
def list_segments(
    run_id: Id,
    paging: PagingDep,
    database: DatabaseDep,
    source: Annotated[str | None, Query(max_length=100, description="The run's first by default.")] = None,
    side: Side | None = None,
    polarity: Annotated[int | None, Query(ge=-1, le=1)] = None,
    kept: bool | None = None,
    highest: Annotated[bool, Query(description="Highest reward first, instead of lowest.")] = False,
) -> Any:
    """Segments of all responses of a run by reward, the most negative first."""

    def fetch(session: Session, limit: int, cursor: str | None) -> Page[SegmentRow]:
        return segments.worst(
            session,
            run_id,
            source,
            side=side,
            polarity=polarity,
            kept=kept,
            highest=highest,
            limit=limit,
            cursor=cursor,
        )

    return lists.answer(database, paging, fetch, SegmentRow, f"segments-{run_id}")


def _track(values: Any | None) -> Track | None:
    return None if values is None else missing_to_null(values)


def _matches(if_none_match: str | None, tag: str) -> bool:
    """Whether a list of ETags names this one, weakly compared as RFC 9110 asks."""
    known = [part.strip().removeprefix("W/") for part in (if_none_match or "").split(",")]
    # Compression turns a strong tag into a weak one on the way; the content is the same.
    return tag in known or "*" in known
