"""Made-up forms, previews, tables and plans for /patterns: what training brings that is hard to show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from markupsafe import Markup

from app.errors import Problem
from app.pages.parts import training_fields as fields
from app.pages.parts.evaluation_figures import FigureTable, figure_table
from app.pages.parts.figures import NOTHING, FigureCell, cell_of
from app.pages.parts.form_fields import FieldGroup, FormField, field_of, shown
from app.pages.parts.masking import VerdictLine
from app.pages.parts.numbers import MISSING, signed
from app.pages.recipes.recipes import (
    CompareGroup,
    CompareRow,
    CompareTable,
    FigureHead,
    PlanStep,
    RecipeStatus,
    Stage,
)
from app.pages.trainings.training_runs import CheckpointLine, TrainingRest
from app.pages.trainings.trainings import MemoryPart, TrainingPreview
from engine.evaluation.request import Figure
from engine.training.request import TrainingNumbers

LONG = "organisation/a-model-whose-name-goes-on-and-on-and-on-7B-instruct-preference-aligned-v0.3-final-2"


@dataclass(frozen=True, slots=True)
class Previewed:
    """A preview as its partial wants it."""

    preview: TrainingPreview | None


@dataclass(frozen=True, slots=True)
class RecipeSample:
    """A recipe as its partial wants it."""

    status: RecipeStatus


def field_group() -> FieldGroup:
    """Every kind of field, some with faults."""
    group = FieldGroup(
        "Fields of a form",
        (
            FormField("sample.model", "Model", hint="A name.", listed="", is_required=True),
            field_of(TrainingNumbers, "optimisation.batch_size"),
            FormField("sample.method", "Method", "select", choices=tuple(fields.method_choices())),
            FormField("sample.check", "Whiten advantages", "check", "A hint.", methods="ppo"),
            FormField(
                "sample.suites", "Task suites", "checks", choices=(("1", LONG), ("2", "sums (2 tasks)"))
            ),
            FormField("sample.none", "Further data sets", "checks"),
            FormField("sample.rule", "Segmentation rule", "area", placeholder="that of the granularity"),
        ),
        hint="Without a script, a field says which methods have it.",
    )
    typed = {
        "sample.model": [LONG],
        "optimisation.batch_size": ["-5"],
        "sample.suites": ["1"],
        "sample.rule": ["{oops"],
    }
    faults = [
        Problem(("body", "optimisation", "batch_size"), "input should be greater than or equal to 1"),
        Problem(("body", "sample", "rule"), "is no JSON"),
        Problem(("body", "sample", "model"), "is no registered model, no folder, and no name on the hub"),
    ]
    (filled,), _ = shown([group], typed, faults)
    return filled


def previews() -> list[Previewed]:
    """Nothing yet, a refusal, and one with everything."""
    everything = TrainingPreview(
        rows=1_234_567,
        held_out=61_729,
        steps=77_160,
        learning_rate="5e-07",
        is_masked=True,
        kept_chosen=0.004,
        kept_rejected=0.999,
        sampled_pairs=2000,
        nothing_kept=1812,
        rule="segmenter hysteresis, baseline otsu, scale std, delta 0.3",
        memory="118 GiB",
        memory_parts=(MemoryPart("weights", "28.2 GiB"), MemoryPart("activations", "33.5 GiB")),
        memory_share=1.0,
        worker="79.2 GiB",
        disk="412 GiB",
        warnings=("This training needs about 118 GiB, and the largest worker has 79.2 GiB.", LONG * 2),
    )
    refused = TrainingPreview(
        problem="A part of the data ends after it starts. Correct it and try again.",
        faults=("Part of the rows, to: too small", "Batch size: must be at least 1"),
    )
    return [Previewed(None), Previewed(refused), Previewed(everything)]


def training_rest() -> TrainingRest:
    """Last values and checkpoints."""
    now = datetime.now(UTC)
    return TrainingRest(
        refresh_url="",
        is_active=False,
        last_values=[
            ("Loss, train", "0.1588"),
            ("Kept tokens, rejected", "0.3333"),
            (LONG, signed(-1e-30)),
        ],
        columns=["Loss, held out", "Accuracy, held out", "Margin, held out"],
        checkpoints=[
            CheckpointLine(100_000, "26.1 GiB", now, False, ["0.3073", "0.8927", MISSING]),
            CheckpointLine(40_000, "26.1 GiB", now - timedelta(days=3), True, ["0.2990", "0.9012", "+3.1"]),
        ],
    )


def figures() -> list[FigureTable]:
    """An evaluation with a figure that is missing and names that are long."""
    return figure_table(
        [
            Figure(metric="success", suite=LONG, value=0.683, low=0.55, high=0.79, count=240, reference=0.51),
            Figure(
                metric="success",
                suite=LONG,
                part="sums",
                value=0.31,
                low=0.2,
                high=0.4,
                count=80,
                reference=0.5,
            ),
            Figure(metric="success", suite=LONG, part="a category of nothing", value=None, count=0),
            Figure(metric="forgetting", suite=LONG, value=-0.004, low=-0.03, high=0.02, count=48),
            Figure(metric="held_out_loss", value=1.8231, low=1.7, high=1.95, count=1_234_567, reference=1.9),
            Figure(metric="kl", value=1.5e-7, count=40),
        ]
    )


def recipe() -> RecipeSample:
    """A recipe of which one training collapsed and one failed."""
    steps = [
        PlanStep("dpo sample", "", "succeeded", None, None, ""),
        PlanStep("dpo segment", "", "running", 37, None, "scores"),
        PlanStep("dpo step", "", "failed", None, "The loss is NaN at step 58; lower the learning rate.", ""),
        PlanStep("dpo token", None, "waiting", None, None, "scores"),
        PlanStep("dpo sample + scorer data", None, "refused", None, f"There is no model `{LONG}`.", ""),
        PlanStep("evaluate dpo step", None, "blocked", None, "It needs `dpo step`, which is failed.", ""),
    ]
    return RecipeSample(
        RecipeStatus(
            refresh_url="",
            status="running",
            is_active=True,
            done=3,
            total=9,
            share=33,
            reasons=["dpo step: The loss is NaN at step 58; lower the learning rate."],
            stages=[
                Stage(
                    "Scorer",
                    "learns which tokens are wrong",
                    1,
                    [PlanStep("scorer", "", "succeeded", None, None, "")],
                ),
                Stage("Trainings", "one for each method and granularity", 1, steps),
            ],
            table=_table(),
            curve_runs=Markup("[]"),
            cancel_url=None,
            retry_url=None,
            clone_url="",
            delete_url=None,
        )
    )


def _table() -> CompareTable:
    def row(density: str, status: str, success: float | None, **more: object) -> CompareRow:
        return CompareRow(
            density=density,
            address=None,
            status=status,
            is_done=status == "succeeded",
            seeds=3 if density == "segment" else 1,
            cells=[_success(success, density), cell_of("held_out_loss", 1.82, 1.7, 1.95, -0.08)],
            parts=[_success(success, density)],
            held_out_loss="0.31",
            kept=(0.81, 0.34),
            tokens=123_456_789,
            seconds=4000.0,
            verdict=str(more.get("verdict", "")),
        )

    collapsed = "collapsed: success fell below the base by more than 2 points"
    return CompareTable(
        heads=[FigureHead("Success", "", LONG), FigureHead("Held-out loss", "", "pairs")],
        part_heads=[FigureHead("Success", "", "sums")],
        groups=[
            CompareGroup("", [row("base, untrained", "succeeded", 0.51)]),
            CompareGroup(
                "DPO",
                [
                    row("sample", "succeeded", 0.58),
                    row("token", "succeeded", 0.22, verdict=collapsed),
                    row("segment", "running", 0.74),
                    row("step", "failed", None),
                ],
            ),
        ],
        compute="Every training makes 200 updates of 16 from the same base policy.",
        base_is_missing=False,
        verdicts=[
            VerdictLine("DPO", "better", "masking helped", "segment 74.0%, against 58.0% sample-wise."),
            VerdictLine(f"RJS on {LONG}", "worse", "masking hurt", "token 22.0%, against 58.0% sample-wise."),
            VerdictLine("SFT", "", "no clear difference", "step 58.1%, against 58.0% sample-wise."),
        ],
    )


def _success(value: float | None, density: str) -> FigureCell:
    if value is None:
        return NOTHING
    change = None if density.startswith("base") else value - 0.51
    return cell_of("success", value, value - 0.06, value + 0.07, change)
