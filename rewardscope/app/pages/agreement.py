"""How well every source of a run finds what people called wrong, for the page of a data set."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request
from sqlalchemy.orm import Session

from rewardscope.app.pages.numbers import counted
from rewardscope.app.pages.rendering import url_of
from rewardscope.app.services import labels
from rewardscope.app.services.labels import SourceAgreement
from rewardscope.engine.sources.registry import SOURCES


@dataclass(frozen=True, slots=True)
class AgreementLine:
    """One source against what people said."""

    label: str
    auroc: float | None
    interval: str
    """The 95% interval; empty where there is none."""
    tokens: str
    """How many tokens that is measured on."""


@dataclass(frozen=True, slots=True)
class AgreementPanel:
    """What people said of a data set, and which sources agree."""

    summary: str
    """How many labels there are; empty while there is none."""
    lines: list[AgreementLine]
    """In the order of the run's sources; empty without a run."""
    needs: str
    """What is missing before a figure can be told; empty where nothing is."""
    labels_url: str
    pairs_url: str
    """The table of pairs, with only those that are labelled."""


def agreement_panel(
    request: Request, session: Session, dataset_id: int, run_id: int | None
) -> AgreementPanel:
    """The panel under a run, or (None) the bare counts."""
    counts = labels.counts_of(session, dataset_id)
    found = [] if run_id is None or not counts.total else labels.agreement(session, run_id)
    absent = [word for word, number in (("wrong", counts.wrong), ("right", counts.right)) if not number]
    return AgreementPanel(
        summary=_summary(counts) if counts.total else "",
        lines=[_line(one) for one in found],
        needs=" and ".join(absent) if counts.total else "",
        labels_url=url_of(request, "dataset_labels", dataset_id=dataset_id),
        pairs_url=url_of(request, "dataset", {"run": run_id, "labelled": 1}, dataset_id=dataset_id),
    )


def _summary(counts: labels.Counts) -> str:
    said = {"right": counts.right, "wrong": counts.wrong, "unsure": counts.unsure}
    words = ", ".join(f"{number} {word}" for word, number in said.items() if number)
    return f"{counted(counts.total, 'label')} on {counted(counts.pairs, 'pair')}: {words}"


def _line(one: SourceAgreement) -> AgreementLine:
    found = one.found
    return AgreementLine(
        label=SOURCES[one.source].label,
        auroc=found.value,
        interval=f"{found.low:.3f} to {found.high:.3f}"
        if found.low is not None and found.high is not None
        else "",
        tokens=f"{counted(found.wrong, 'wrong token')}, {found.right} right",
    )
