"""Reward maps as they are shown: read back from the store and cut by any rule, without a model."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from rewardscope.app.db.models import Pair, Run
from rewardscope.app.services.pages import DEFAULT_LIMIT, Page
from rewardscope.engine.types import RewardMap, Segmentation, SegmentationRule, Side, Span


@dataclass(frozen=True, slots=True)
class MapView:
    """One reward map with the text that its offsets speak of."""

    pair_id: int
    text: str
    map: RewardMap


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
class PairView:
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
    raise NotImplementedError


def list_maps(
    session: Session, run_id: int, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[MapView]:
    """Reward maps of a run in the order of its rows. Raises NotFound."""
    raise NotImplementedError


def get_map(session: Session, run_id: int, pair_id: int, side: Side) -> MapView:
    """One reward map. Raises NotFound."""
    raise NotImplementedError


def pair_view(
    session: Session,
    pair_id: int,
    *,
    run_id: int,
    source: str | None = None,
    rule: SegmentationRule | None = None,
) -> PairView:
    """A pair, cut by `rule` (None: the run's own) from its stored rewards of `source` (None: the run's first).
    Raises NotFound (pair, run, or a pair of another data set) and Invalid (source)."""
    raise NotImplementedError
