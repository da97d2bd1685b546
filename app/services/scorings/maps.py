"""Reward maps as they are shown: read back from the store and cut by any rule, without a model."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from app.db.maps import MapView as MapView
from app.db.maps import read_maps
from app.db.tables import Pair, Run, SourceStatistics
from app.errors import NotFound
from app.services.datasets.datasets import get_pair
from app.services.paging import DEFAULT_LIMIT, Page, decode_cursor, encode_cursor, page_limit
from app.services.scorings.cuts import spans_of
from app.services.scorings.rules import mask_of
from app.services.scorings.sources import chosen_source, scoring_run, source_names
from engine.conflict import conflict_mass
from engine.kept import MaskFigures, about_rule, kept_fraction
from engine.masks import segment_response
from engine.rules import SegmentationRule
from engine.segmentation.statistics import RewardStatistics
from engine.sources.registry import SOURCES
from engine.types import SIGN, RewardMap, Segmentation, Side, Span


@dataclass(frozen=True, slots=True)
class RunNumbers:
    """The token rewards of a run by one source, as numbers; all but `count` are None while there is none."""

    count: int
    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    median: float | None
    otsu: float | None
    final: bool
    """Whether the run is over, so that these will not change."""


@dataclass(frozen=True, slots=True)
class RunSource:
    """A source that a run scored by, and the rule that its stored segments were cut by."""

    name: str
    label: str
    kind: str
    rule: SegmentationRule
    numbers: RunNumbers
    localisation: dict[str, float] | None
    """{auroc, low, high, wrong_tokens, tokens} where the data has labelled errors."""
    reason: str = ""
    """Why it is this rule: made from the run's rewards, or stated; '' of a run that was scored before."""
    mask: MaskFigures | None = None
    """What the rule keeps of each side, and how far apart its pivots are."""
    warnings: tuple[str, ...] = ()
    """What speaks against such a mask."""

    @property
    def about_rule(self) -> str:
        """Why it is this rule and what its mask comes to, in sentences; '' of a run that kept neither."""
        return about_rule(self.reason, self.mask)


@dataclass(frozen=True, slots=True)
class SideView:
    """One response of a pair: its text, what scoring knows of it, and how the rule cuts it."""

    side: Side
    text: str
    map: RewardMap
    segmentation: Segmentation
    spans: tuple[Span, ...] | None
    """Labelled spans of the data; None where nobody annotated the response."""
    total: float | None
    """Reward of the whole response by the shown source."""
    kept: float
    """Fraction of its tokens that the mask keeps."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the token rewards of a pair agree with the preference, under the shown rule."""

    kept_chosen: float | None
    """None where the pair lacks the side."""
    kept_rejected: float | None
    conflict: float | None
    """Share of absolute reward that lies in segments that contradict the preference; None without reward."""
    margin: float | None
    """Reward of the chosen response minus that of the rejected one."""
    drifts: bool
    """Whether the mask keeps more of the rejected response than of the chosen one: lowering everything then
    raises the margin (METHOD section 8)."""


@dataclass(frozen=True, slots=True)
class CutPair:
    """All that the pair page shows."""

    pair: Pair
    run: Run
    source: RunSource
    """The source shown; `source.rule` is the run's own rule."""
    rule: SegmentationRule
    """The rule that this view is cut by."""
    sides: list[SideView]
    """Chosen first. Empty while the run has not reached the pair."""
    sources: list[RunSource]
    """All sources of the run, in the order of the request."""
    agreement: Agreement


def sources_of(session: Session, run_id: int) -> list[RunSource]:
    """The sources of a scoring run with their statistics, in the order of the request. Raises NotFound."""
    run = scoring_run(session, run_id)
    return [known.source for known in known_sources(session, run)]


def list_maps(
    session: Session, run_id: int, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[MapView]:
    """Reward maps of a run in the order of its rows, chosen before rejected. Raises NotFound."""
    scoring_run(session, run_id)
    after = None if cursor is None else _last_shown(cursor)
    found = read_maps(session, run_id, after=after, limit=page_limit(limit) + 1)
    last = found[limit - 1] if len(found) > limit else None
    return Page(found[:limit], None if last is None else encode_cursor(last.pair_id, last.map.side))


def get_map(session: Session, run_id: int, pair_id: int, side: Side) -> MapView:
    """One reward map. Raises NotFound."""
    found = read_maps(session, run_id, pair_id=pair_id, side=side)
    if not found:
        scoring_run(session, run_id)
        raise NotFound(
            f"Run {run_id} has no reward map of the {side} response of pair {pair_id}; the list of its maps "
            "shows those that exist."
        )
    return found[0]


def pair_view(
    session: Session,
    pair_id: int,
    *,
    run_id: int,
    source: str | None = None,
    rule: SegmentationRule | None = None,
) -> CutPair:
    """A pair, cut by `rule` (None: the run's own) from its rewards of `source` (None: the run's first).

    Raises NotFound (pair, run, or a pair of another data set), Invalid (source), RequestError (a rule that
    asks for what was not scored, such as entropies without a policy).
    """
    stored = _stored_pair(session, pair_id, run_id)
    return _pair_view(stored, chosen_source(stored.run, source), rule)


def pair_views(
    session: Session,
    pair_id: int,
    *,
    run_id: int,
    source: str | None = None,
    rule: SegmentationRule | None = None,
) -> list[CutPair]:
    """A pair as every source of the run sees it, in the order of the request: `source` under `rule`, the
    others under the run's own rules. Raises what `pair_view` raises."""
    stored = _stored_pair(session, pair_id, run_id)
    shown = chosen_source(stored.run, source)
    names = [one.source.name for one in stored.known]
    return [_pair_view(stored, name, rule if name == shown else None) for name in names]


def cut(
    one: RewardMap, text: str, source: str, rule: SegmentationRule, statistics: RewardStatistics
) -> Segmentation:
    """One response, `text`, cut by `rule`. Raises RequestError (a rule that asks for what was not scored)."""
    return segment_response(
        one.rewards[source],
        SIGN[one.side],
        rule,
        statistics,
        text=text,
        offsets=one.offsets,
        entropies=one.entropies,
        ends_with_eos=one.ends_with_eos,
    )


# -------------------------------------------------------------------------------------------- one response


@dataclass(frozen=True, slots=True)
class _StoredPair:
    """A pair as it lies in the store, before any source is chosen."""

    pair: Pair
    run: Run
    known: list[KnownSource]
    maps: list[MapView]


def _stored_pair(session: Session, pair_id: int, run_id: int) -> _StoredPair:
    pair, run = get_pair(session, pair_id), scoring_run(session, run_id)
    if pair.dataset_id != run.dataset_id:
        raise NotFound(f"Run {run_id} did not score pair {pair_id}; choose a run of the pair's own data set.")
    known = known_sources(session, run)
    return _StoredPair(pair, run, known, read_maps(session, run_id, pair_id=pair_id))


def _pair_view(stored: _StoredPair, source: str, rule: SegmentationRule | None) -> CutPair:
    """The pair under one source, cut by `rule` (None: the run's own)."""
    shown = next(one for one in stored.known if one.source.name == source)
    rule = rule or shown.source.rule
    sides = [
        _side_view(view, source, rule, shown.statistics, stored.pair)
        for view in stored.maps
        if source in view.map.rewards
    ]
    return CutPair(
        pair=stored.pair,
        run=stored.run,
        source=shown.source,
        rule=rule,
        sides=sides,
        sources=[one.source for one in stored.known],
        agreement=agreement_of(sides),
    )


def _last_shown(cursor: str) -> tuple[int, str]:
    pair_id, side = decode_cursor(cursor, [int, str])
    return pair_id, side


def _side_view(
    view: MapView, source: str, rule: SegmentationRule, statistics: RewardStatistics, pair: Pair
) -> SideView:
    segmentation = cut(view.map, view.text, source, rule, statistics)
    return SideView(
        side=view.map.side,
        text=view.text,
        map=view.map,
        segmentation=segmentation,
        spans=spans_of(getattr(pair, f"{view.map.side}_extras")),
        total=view.map.totals.get(source),
        kept=kept_fraction(segmentation.mask),
    )


def agreement_of(sides: Sequence[SideView]) -> Agreement:
    """How far the sides agree with the preference, as they are cut."""
    kept: dict[Side, float | None] = {view.side: _number(view.kept) for view in sides}
    totals = {view.side: view.total for view in sides}
    chosen, rejected = totals.get("chosen"), totals.get("rejected")
    kept_chosen, kept_rejected = kept.get("chosen"), kept.get("rejected")
    return Agreement(
        kept_chosen=kept_chosen,
        kept_rejected=kept_rejected,
        conflict=_number(conflict_mass({view.side: view.segmentation for view in sides})),
        margin=None if chosen is None or rejected is None else chosen - rejected,
        drifts=kept_chosen is not None and kept_rejected is not None and kept_rejected > kept_chosen,
    )


# --------------------------------------------------------------------------------------- a run's statistics


@dataclass(frozen=True, slots=True)
class KnownSource:
    """A source of a run, with the statistics that its responses are cut with."""

    source: RunSource
    statistics: RewardStatistics


@dataclass(frozen=True, slots=True)
class _Summary:
    """A sketch read back, with the numbers that take long to find in it."""

    statistics: RewardStatistics
    numbers: RunNumbers


_final_summaries: OrderedDict[tuple[str, int, datetime, str], _Summary] = OrderedDict()
"""Sketches of runs that are over never change, and reading one costs more than cutting a pair."""
_final_summaries_lock = Lock()
_FINAL_SUMMARIES = 64


def known_sources(session: Session, run: Run) -> list[KnownSource]:
    """The sources of a scoring run, in the order of the request."""
    query = select(
        SourceStatistics.source, SourceStatistics.rule, SourceStatistics.final, SourceStatistics.localisation
    ).where(SourceStatistics.run_id == run.id)
    rows = {row.source: row for row in session.execute(query)}
    return [_known_source(session, run, rows[name]) for name in source_names(run)]


def _known_source(session: Session, run: Run, row: Row[Any]) -> KnownSource:
    summary = _summary(session, run, row.source, row.final)
    info = SOURCES[row.source]
    rule = SegmentationRule.model_validate(row.rule)
    mask = mask_of(run, row.source)
    source = RunSource(
        row.source,
        info.title,
        info.kind,
        rule,
        summary.numbers,
        row.localisation,
        mask.reason,
        mask.figures,
        tuple(mask.warnings()),
    )
    return KnownSource(source, summary.statistics)


def _summary(session: Session, run: Run, source: str, final: bool) -> _Summary:
    if not final:
        return _read_summary(session, run.id, source, final)
    key = (str(session.get_bind().engine.url), run.id, run.created_at, source)
    with _final_summaries_lock:
        if key in _final_summaries:
            _final_summaries.move_to_end(key)
            return _final_summaries[key]
    summary = _read_summary(session, run.id, source, final)
    with _final_summaries_lock:
        _final_summaries[key] = summary
        while len(_final_summaries) > _FINAL_SUMMARIES:
            _final_summaries.popitem(last=False)
    return summary


def _read_summary(session: Session, run_id: int, source: str, final: bool) -> _Summary:
    query = select(SourceStatistics.sketch).where(
        SourceStatistics.run_id == run_id, SourceStatistics.source == source
    )
    statistics = RewardStatistics.from_dict(session.scalars(query).one())
    return _Summary(statistics, numbers_of(statistics, final))


def numbers_of(statistics: RewardStatistics, final: bool) -> RunNumbers:
    """The statistics of some rewards as numbers to show."""
    return RunNumbers(
        count=statistics.count,
        mean=_number(statistics.mean),
        std=_number(statistics.std),
        min=_number(statistics.min),
        max=_number(statistics.max),
        median=_number(statistics.median()),
        otsu=_number(statistics.otsu()),
        final=final,
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
