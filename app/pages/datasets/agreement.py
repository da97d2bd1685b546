"""How well every source of a run finds what people called wrong, for the page of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import Request
from sqlalchemy.orm import Session

from app.pages.parts.numbers import counted
from app.pages.parts.rendering import url_of
from app.services.pairs import labels
from app.services.pairs.labels import SourceAgreement


@dataclass(frozen=True, slots=True)
class AgreementLine:
    """One source against what people said."""

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
    lines: Mapping[str, AgreementLine]
    """By source; empty without a run, and while nothing can be told."""
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
    absent = [word for word, number in (("wrong", counts.wrong), ("right", counts.right)) if not number]
    found = [] if run_id is None or absent else labels.agreement(session, run_id)
    return AgreementPanel(
        summary=_summary(counts) if counts.total else "",
        lines={one.source: _line(one) for one in found},
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
        auroc=found.value,
        interval=f"{found.low:.3f} to {found.high:.3f}"
        if found.low is not None and found.high is not None
        else "",
        tokens=f"{counted(found.wrong, 'token')} called wrong, {found.right} right",
    )
