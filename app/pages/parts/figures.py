"""Figures of evaluations as people read them: a share as percent, its interval, and what changed."""

from __future__ import annotations

from dataclasses import dataclass

from app.pages.parts.numbers import MINUS, MISSING, plain_number, signed
from engine.evaluation.request import Figure

SHARES = ("success", "pair_accuracy", "implicit_accuracy", "forgetting")
LABELS = {
    "success": ("Success", "Share of right answers."),
    "pair_accuracy": ("Pair accuracy", "Share of pairs whose chosen response is likelier."),
    "implicit_accuracy": (
        "Implicit accuracy",
        "Share of pairs whose chosen response has the higher implicit reward.",
    ),
    "held_out_loss": ("Held-out loss", "Nats a token of the chosen responses."),
    "kl": ("KL", "Nats a token, from the reference, on the model's own answers."),
    "auroc": ("AUROC", "How often a token in a labelled error has the lower reward; 0.5 is a coin."),
    "boundary_f1": ("Boundary F1", "How well segments begin where labelled errors do."),
    "forgetting": (
        "Forgetting",
        "Fall of success on skills that the data say nothing of; below 0 it got better.",
    ),
}
BETTER = {"held_out_loss": -1, "forgetting": -1, "kl": 0}
"""Where more is not better: -1 where less is, 0 where neither is."""
SAME = 5e-4
"""A change that is smaller is none, in the figure's own unit."""


@dataclass(frozen=True, slots=True)
class FigureCell:
    """A figure in a table."""

    value: str = MISSING
    interval: str = ""
    change: str = ""
    """Against what it is compared with, with a sign."""
    tone: str = ""
    """`better`, `worse` or '': what the change means, said in words too."""


NOTHING = FigureCell()


def label_of(metric: str) -> str:
    """The name of a figure."""
    return LABELS[metric][0] if metric in LABELS else metric.replace("_", " ")


def measured_on(metric: str, suite: str | None, part: str) -> str:
    """What a figure is of, in words."""
    what = suite or ("" if part else "its own answers" if metric == "kl" else "pairs")
    return ", ".join(filter(None, [what, part]))


def place_of(metric: str) -> tuple[int, str]:
    """By what figures are sorted: what matters most comes first."""
    return (list(LABELS).index(metric) if metric in LABELS else len(LABELS)), metric


def hint_of(metric: str) -> str:
    """What a figure says."""
    return LABELS[metric][1] if metric in LABELS else ""


def cell_of(
    metric: str, value: float | None, low: float | None, high: float | None, change: float | None
) -> FigureCell:
    """A figure with its interval and its change."""
    if value is None:
        return NOTHING
    interval = "" if low is None or high is None else f"{_told(metric, low)} to {_told(metric, high)}"
    return FigureCell(_told(metric, value), interval, _change(metric, change), _tone(metric, change))


def figure_cell(figure: Figure) -> FigureCell:
    """A figure of one evaluation, against its reference."""
    is_change = figure.metric in ("forgetting", "kl")
    change = (
        None
        if figure.value is None or figure.reference is None or is_change
        else figure.value - figure.reference
    )
    return cell_of(figure.metric, figure.value, figure.low, figure.high, change)


def _told(metric: str, value: float) -> str:
    if metric not in SHARES:
        return plain_number(value)
    percent = f"{100 * value:.1f}%".replace("-", MINUS)
    return "0.0%" if percent == f"{MINUS}0.0%" else percent


def _change(metric: str, change: float | None) -> str:
    if change is None:
        return ""
    if abs(change) < SAME:
        return "±0"
    if metric not in SHARES:
        return signed(change, 2)
    return f"{100 * change:+.1f} points".replace("-", MINUS)


def _tone(metric: str, change: float | None) -> str:
    direction = BETTER.get(metric, 1)
    if change is None or not direction or abs(change) < SAME:
        return ""
    return "better" if change * direction > 0 else "worse"
