"""Every component on one page, with data that are hard to show: where looks are judged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from app.db.tables import JobStatus, Pair, Run
from app.pages.datasets.datasets import RowFault
from app.pages.datasets.histogram import HistogramPanel, panels
from app.pages.pairs.beside import Beside, SourceAddresses, beside
from app.pages.pairs.pairs import SourceTab
from app.pages.parts.evaluation_figures import FigureTable
from app.pages.parts.form_fields import FieldGroup
from app.pages.parts.highlight import MarkedResponse, highlight
from app.pages.parts.looks import Look
from app.pages.parts.numbers import MISSING, signed
from app.pages.parts.pair_view import (
    PairFigure,
    SidePanel,
    ViewPanel,
    drawing_of,
    figures,
    legend,
    side_panel,
    view_data,
)
from app.pages.parts.rendering import PageContext, render
from app.pages.parts.run_page import LogEntry, RunStatus
from app.pages.parts.run_rows import RunRow
from app.pages.patterns import training_samples
from app.pages.patterns.curve_samples import CurveSample, curve_samples
from app.pages.patterns.samples import SAMPLES, Sample, sample_pair, sample_side
from app.pages.trainings.token_maps import MappedSide, StepLine, TokenMapFragment, TokenMapPanel
from app.pages.trainings.training_runs import TrainingRest
from app.services.pairs.drawing import LEVELS, TrackName
from app.services.pairs.histograms import Histogram
from app.services.pairs.made_up import SOURCE
from app.services.pairs.pairs import PairQuery
from app.services.scorings.maps import Agreement, CutPair, RunNumbers, RunSource
from engine.rules import SegmentationRule
from engine.segmentation.segmenters.fixed import Fixed
from engine.types import Side

router = APIRouter()


@dataclass(frozen=True, slots=True)
class ShownSample:
    """A response that is hard to show."""

    title: str
    panel: SidePanel


@dataclass(frozen=True, slots=True)
class SamplePair:
    """Two responses that are hard to show, in a look of their own."""

    title: str
    view: ViewPanel


@dataclass(frozen=True, slots=True)
class Compared:
    """A pair under several sources, as its partial wants it."""

    beside: Beside


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternsPage(PageContext):
    """All components. `view`, `status`, `problem` and `faults` feed the partials of real pages."""

    view: ViewPanel
    beside: None
    pairs: list[SamplePair]
    compared: Compared
    masked: ViewPanel
    samples: list[ShownSample]
    statuses: list[str]
    shares: list[float | None]
    numbers: list[float | None]
    runs: list[RunStatus]
    histograms: list[HistogramPanel]
    steps: TokenMapFragment
    sources: list[SourceTab]
    demo: None
    demos: list[RunRow]
    problem: str
    faults: list[RowFault]
    curve_samples: list[CurveSample]
    group: FieldGroup
    previews: list[training_samples.Previewed]
    rest: TrainingRest
    figures: list[FigureTable]
    recipe: training_samples.RecipeSample


@router.get("/patterns", name="pages:patterns")
def show_patterns(request: Request) -> Response:
    """The page."""
    page = PatternsPage(
        title="Patterns",
        view=_view(mask_view=False),
        beside=None,
        pairs=_pairs(),
        compared=Compared(_beside()),
        masked=_view(mask_view=True),
        samples=[ShownSample(s.title, _panel("chosen", index)) for index, s in enumerate(SAMPLES)],
        statuses=[*JobStatus],
        shares=[None, 0.0, 0.004, 0.37, 0.999, 1.0],
        numbers=[None, 0.0, 0.1234567, -1.5e-7, 12345.678, float("nan"), float("-inf")],
        runs=_runs(),
        histograms=_histograms(),
        steps=_steps(),
        sources=[
            SourceTab("Implicit reward", "", True, 0.44, 2.57),
            SourceTab("Reward model: value", "", False, None, None),
        ],
        demo=None,
        demos=[_demo(JobStatus.queued, None), _demo(JobStatus.running, None), _demo(JobStatus.running, 37)],
        problem="3 rows cannot be used, the first on line 7: it is empty. Nothing was imported.",
        faults=[
            RowFault("7", "chosen", "The response is empty; give it a text, or leave the row out."),
            RowFault("12345678", "", "The line is no JSON: " + "x" * 180),
            RowFault("12345679", "token_rewards", "There are 5 rewards for 7 tokens."),
        ],
        curve_samples=curve_samples(),
        group=training_samples.field_group(),
        previews=training_samples.previews(),
        rest=training_samples.training_rest(),
        figures=training_samples.figures(),
        recipe=training_samples.recipe(),
    )
    return render(request, "patterns/show.html", page)


def _histograms() -> list[HistogramPanel]:
    """Selected in part, bounded; one bar that dwarfs the others; one bar alone."""
    edges = [bar / 20 for bar in range(21)]
    steep = [1_234_567, 9_876, 321, *[1] * 15, 0, 2]
    found = [
        Histogram("conflict", edges, [bar * bar for bar in range(20)], [*range(20)], False, False, 0),
        Histogram("margin", [10 * edge - 5 for edge in edges], steep, None, True, True, 12),
        Histogram("pivots", [3.0, 4.0], [7], None, False, False, 0),
    ]
    return panels(found, PairQuery(min_conflict=0.25, max_conflict=0.8))


def _steps() -> TokenMapFragment:
    """A pair of hard texts at one step of a training."""
    sides = [sample_side(SAMPLES[2], "chosen", 5), sample_side(SAMPLES[4], "rejected", 6)]
    drawing = drawing_of(sides, SOURCE, SegmentationRule(), Look(colour="raw"))
    mapped = [
        MappedSide(
            side.side,
            "a sign",
            "+1.5",
            highlight(
                MarkedResponse(
                    text=side.text,
                    starts=side.map.offsets[:, 0].tolist(),
                    ends=side.map.offsets[:, 1].tolist(),
                    levels=drawing.sides[side.side].levels,
                    eos=side.map.eos,
                )
            ),
            False,
        )
        for side in sides
    ]
    lines = [
        StepLine("0", "as it began", "0", "0", "0", "", "", False),
        StepLine("1,234,567", "best", "+0.123", MISSING, signed(-1.5e-7), "", "", True),
    ]
    levels = list(range(-LEVELS, LEVELS + 1))
    return TokenMapFragment(
        TokenMapPanel(
            "step 1,234,567 of 2,000,000",
            lines,
            mapped,
            signed(-2.5),
            signed(2.5),
            levels,
            "0.1",
            Markup("{}"),
        )
    )


def _view(*, mask_view: bool) -> ViewPanel:
    sides = [sample_side(SAMPLES[0], "chosen", 3), sample_side(SAMPLES[0], "rejected", 4)]
    drawing = drawing_of(sides, SOURCE, SegmentationRule(), Look())
    numbers = Agreement(
        kept_chosen=sides[0].kept, kept_rejected=sides[1].kept, conflict=0.312, margin=-1.25, drifts=True
    )
    return ViewPanel(
        sides=[side_panel(side, drawing) for side in sides],
        figures=[*figures(numbers), PairFigure("Missing", MISSING, "a number that nobody knows")],
        warnings=["The mask keeps more of the rejected response than of the chosen one."],
        legend=legend(sides, drawing),
        data=view_data(sides, drawing) if not mask_view else Markup("null"),
        tokens_url="",
        mask_view=mask_view,
    )


def _pairs() -> list[SamplePair]:
    """Hard texts with their differences, each by another track."""
    tracks: tuple[TrackName, ...] = ("reward", "rank", "logprob", "reward", "ratio", "reward", "entropy")
    return [
        SamplePair(f"{sample.title}, differences, {track}", _compared(sample, Look(track=track, diff=True)))
        for sample, track in zip(SAMPLES, tracks, strict=False)
    ]


def _compared(sample: Sample, look: Look) -> ViewPanel:
    rule = SegmentationRule()
    sides = sample_pair(sample, rule)
    drawing = drawing_of(sides, SOURCE, rule, look)
    return ViewPanel(
        sides=[side_panel(side, drawing) for side in sides],
        figures=[],
        warnings=[],
        legend=legend(sides, drawing),
        data=view_data(sides, drawing),
        tokens_url="",
        mask_view=False,
        track=drawing.track,
        is_sequential=drawing.colouring.is_sequential,
    )


def _beside() -> Beside:
    """Three sources that are not of one mind."""
    numbers = RunNumbers(0, None, None, None, None, None, None, final=True)
    rule = SegmentationRule()
    views = []
    for seed, label in enumerate(("Implicit reward", "Reward model: value", "Annotated spans"), start=31):
        sides = [sample_side(SAMPLES[0], "chosen", seed), sample_side(SAMPLES[0], "rejected", seed + 9)]
        source = RunSource(SOURCE, label, "policy", rule, numbers, None)
        agreement = Agreement(sides[0].kept, sides[1].kept, 0.25, 1.5, drifts=False)
        views.append(CutPair(Pair(), Run(), source, rule, sides, [source], agreement))
    return beside(views, "", Look(), lambda source: SourceAddresses("", ""))


def _panel(side: Side, index: int) -> SidePanel:
    rule = SegmentationRule(segmenter=Fixed(length=1)) if index == 3 else SegmentationRule()
    shown = sample_side(SAMPLES[index], side, index + 5, rule)
    return side_panel(shown, drawing_of([shown], SOURCE, rule, Look()))


def _demo(status: JobStatus, share: int | None) -> RunRow:
    return RunRow(
        id=1,
        name="Demo world",
        kind="demo",
        is_compared=False,
        address="",
        status=status,
        is_active=True,
        dataset_name=None,
        dataset_url=None,
        phase="" if status == JobStatus.queued else "pretraining",
        done=0,
        total=None,
        share=share,
        created_at=datetime.now(UTC),
        seconds=None,
    )


def _runs() -> list[RunStatus]:
    now = datetime.now(UTC)
    common = {
        "refresh_url": "",
        "unit": "pairs",
        "attempt": 2,
        "worker": "gpu-host-17.cluster.example:40213",
        "started_at": now - timedelta(minutes=3),
        "result_label": "Open the pairs",
        "cancel_url": None,
        "retry_url": None,
        "retry_label": "Retry",
        "clone_url": None,
        "notes": [],
        "delete_url": None,
        "is_active": False,
    }
    log = [
        LogEntry(now, "info", "Scoring 12 345 pairs."),
        LogEntry(now, "warning", "Pair `weird-1` was cut: its prompt has 9 000 tokens."),
        LogEntry(now, "output", "a_line_without_any_space_" * 12),
        LogEntry(now, "error", "CUDA out of memory."),
    ]

    def run(status: JobStatus, **changes: object) -> RunStatus:
        fields: dict[str, object] = {
            **common,
            "status": status,
            "is_stopping": False,
            "phase": "scoring",
            "done": 1234,
            "total": 12345,
            "share": 10,
            "eta_seconds": None,
            "seconds": 200.0,
            "error": None,
            "traceback": None,
            "log": [],
            "result_url": None,
            **changes,
        }
        return RunStatus(**fields)  # type: ignore[arg-type] # one dictionary of all kinds of fields

    return [
        run(JobStatus.running, is_stopping=True, seconds=None, eta_seconds=4000.0, log=log),
        run(JobStatus.failed, error="The model has no safetensors; convert it, or name another one."),
        run(
            JobStatus.crashed,
            error="The job's process was killed, most likely for want of memory.",
            traceback="Traceback (most recent call last):\n  ...\nValueError: <script>alert(1)</script>",
        ),
    ]
