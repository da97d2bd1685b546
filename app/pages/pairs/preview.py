"""What training would see of a pair, density by density, as a small table beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from app.dependencies import SessionDep
from app.pages.pairs.addresses import address_of, cut_pair
from app.pages.parts.numbers import count, plain_number, signed
from app.pages.parts.rendering import PageContext, render, url_of
from app.services.pairs import previews
from app.services.pairs.previews import DensityPreview, PairPreview, PreviewName
from engine.types import Side

NAMES: Mapping[PreviewName, tuple[str, str]] = {
    "sample": ("Sample", "Every token counts"),
    "step": ("Step", "Cut at punctuation and line breaks"),
    "token": ("Token", "Every token is kept or dropped by itself"),
    "segment": ("Segment", "Cut where the signal turns"),
    "shown": ("As shown", "By the rule of the controls above"),
}

router = APIRouter()


@dataclass(frozen=True, slots=True)
class PreviewLine:
    """One density."""

    name: str
    hint: str
    note: str
    """That training leaves the pair out, where it does."""
    cells: list[str]


@dataclass(frozen=True, slots=True)
class PreviewPanel:
    """The table, or a place for it until it is asked for."""

    action: str
    """Where the table comes from when the rule moves; empty where no rule can move."""
    address: str
    """The table on a page of its own, while this one waits."""
    waits: bool
    missing: str | None = None
    lines: list[PreviewLine] | None = None
    explained: str = ""


@dataclass(frozen=True, slots=True)
class PairPreviewFragment:
    """What is drawn anew when the rule moves."""

    preview: PreviewPanel


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewPage(PageContext):
    """The table on a page of its own."""

    key: str
    pair_url: str
    preview: PreviewPanel


@router.get("/pairs/{pair_id:int}/preview", name="pages:pair_preview")
def show_preview(request: Request, session: SessionDep, pair_id: int) -> Response:
    """The table, under the run, source and rule of the address."""
    address = address_of(request)
    view = cut_pair(session, pair_id, address)
    found = previews.pair_preview(
        session, pair_id, run_id=view.run.id, source=view.source.name, shown=view.rule
    )
    if request.headers.get("hx-request"):
        panel = preview_panel(found, url_of(request, "pair_preview", pair_id=pair_id))
        return render(request, "pairs/_preview.html", PairPreviewFragment(panel))
    page = PreviewPage(
        title="What training would see",
        section="home",
        key=view.pair.key,
        pair_url=url_of(request, "pair", address.values, pair_id=pair_id),
        preview=preview_panel(found),
    )
    return render(request, "pairs/preview.html", page)


def preview_panel(found: PairPreview, action: str = "") -> PreviewPanel:
    """The table of a preview. The shown rule has a line where no density has it already."""
    known = [one.rule for one in found.densities if one.name != "shown"]
    shown = [one for one in found.densities if one.name != "shown" or one.rule not in known]
    return PreviewPanel(
        action=action,
        address="",
        waits=False,
        missing=found.missing,
        lines=[_line(one) for one in shown],
        explained=_explained(found),
    )


def _line(one: DensityPreview) -> PreviewLine:
    name, hint = NAMES[one.name]
    plain, guarded = one.plain, one.guarded
    return PreviewLine(
        name=name,
        hint=hint,
        note="" if one.counted else "left out",
        cells=[
            _kept(one, "chosen"),
            _kept(one, "rejected"),
            signed(guarded.margin if guarded else None),
            plain_number(plain.loss if plain else None),
            plain_number(guarded.loss if guarded else None),
            signed(guarded.chosen_gradient if guarded else None),
            signed(guarded.rejected_gradient if guarded else None),
            count(guarded.clipped) if guarded else "\N{EN DASH}",
            plain_number(one.rjs.loss if one.rjs and one.rjs.kept else None),
        ],
    )


def _kept(one: DensityPreview, side: Side) -> str:
    seen = one.sides.get(side)
    if seen is None:
        return "\N{EN DASH}"
    kept = count(int(seen.kept)) if seen.kept == int(seen.kept) else plain_number(seen.kept)
    return f"{kept} of {count(seen.tokens)}"


def _explained(found: PairPreview) -> str:
    method = found.method
    return (
        "As a batch of this pair alone, with the run's policy as the trained model, its reference, and masks "
        f"by {found.source_label}. Beta {method.beta:g}; guarded: rejected log-ratios clipped at "
        f"\N{MINUS SIGN}{method.rejected_clip:g} nats, {method.sft_weight:g} of the likelihood of kept "
        f"chosen tokens, {method.masked_weight:g} of the squared log-ratio of dropped ones. The plain "
        "gradient of a dropped token is 0, and so is that of a rejected one below the clip. RJS takes the "
        "chosen response for the best of its samples, and for implicit rewards cuts at their median."
    )
