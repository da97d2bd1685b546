"""All that the page of a pair shows, as one document of plain JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.db.tables import Dataset, Pair
from app.services.pairs.labels import Label
from app.services.pairs.previews import PairPreview
from app.services.scorings.maps import CutPair, SideView
from engine.formats.maps import map_record
from engine.training.preview import DpoPreview
from engine.types import missing_to_null, ranks_to_null

FORMAT = "rewardscope-pair"
VERSION = 1


def pair_document(
    dataset: Dataset,
    pair: Pair,
    view: CutPair | None,
    labels: Sequence[Label],
    preview: PairPreview | None,
) -> dict[str, Any]:
    """The pair as a run and rule show it (`view` None: nobody has scored it), with labels and previews.

    Lists of tokens have one entry a response token, EOS included; null is a missing number. Offsets, spans
    and labels count code points of the response's text.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "dataset": {"id": dataset.id, "name": dataset.name, "content_hash": dataset.content_hash},
        "pair": {
            "id": pair.id,
            "key": pair.key,
            "position": pair.position,
            "prompt": pair.prompt if pair.messages is None else pair.messages,
            "chosen": pair.chosen,
            "rejected": pair.rejected,
            "meta": pair.meta,
        },
        "run": None if view is None else _run(view),
        "source": None if view is None else view.source.name,
        "rule": None if view is None else view.rule.model_dump(mode="json"),
        "agreement": None if view is None else _agreement(view),
        "sides": [] if view is None else [_side(side, view.source.name) for side in view.sides],
        "labels": [_label(label) for label in labels],
        "preview": None if preview is None else _preview(preview),
    }


def _run(view: CutPair) -> dict[str, Any]:
    run = view.run
    models = {role: run.request.get(role) for role in ("policy", "reference", "reward_model")}
    return {
        "id": run.id,
        "name": run.name,
        "models": {role: model and {"name": model["name"]} for role, model in models.items()},
        "beta": run.request.get("beta"),
        "sources": [
            {
                "name": source.name,
                "label": source.label,
                "kind": source.kind,
                "rule": source.rule.model_dump(mode="json"),
            }
            for source in view.sources
        ],
    }


def _agreement(view: CutPair) -> dict[str, Any]:
    found = view.agreement
    return {
        "margin": found.margin,
        "conflict": found.conflict,
        "kept_chosen": found.kept_chosen,
        "kept_rejected": found.kept_rejected,
        "drifts": found.drifts,
    }


def _side(side: SideView, source: str) -> dict[str, Any]:
    cut, stored = side.segmentation, side.map
    record = map_record(stored, {source: cut}, side.text)
    return {
        "side": side.side,
        "text": side.text,
        "tokens": record["tokens"],
        "token_ids": stored.token_ids.tolist(),
        "offsets": record["offsets"],
        "eos": stored.eos,
        "prompt_tokens": stored.prompt_tokens,
        "truncated_prompt_tokens": stored.truncated_prompt_tokens,
        "logprobs": record["logprobs"],
        "reference_logprobs": record["reference_logprobs"],
        "entropies": record["entropies"],
        "ranks": None if stored.ranks is None else ranks_to_null(stored.ranks),
        "token_rewards": record["token_rewards"],
        "totals": {name: missing_to_null([total])[0] for name, total in stored.totals.items()},
        "scaled_rewards": missing_to_null(cut.scaled),
        "baseline": cut.baseline,
        "scale": cut.scale,
        "signal": cut.signal.tolist(),
        "candidates": cut.candidates.tolist(),
        "pivots": cut.pivots.tolist(),
        "segments": [
            {
                "start": segment.start,
                "end": segment.end,
                "char_start": int(stored.offsets[segment.start, 0]),
                "char_end": int(stored.offsets[segment.end - 1, 1]),
                "polarity": segment.polarity,
                "reward": missing_to_null([segment.reward])[0],
                "kept": segment.kept,
                "disputed": segment.disputed,
            }
            for segment in cut.segments
        ],
        "mask": cut.mask.tolist(),
        "weights": missing_to_null(cut.weights),
        "counted": cut.counted,
        "spans": None
        if side.spans is None
        else [
            {"start": span.start, "end": span.end, "label": span.label, "value": span.value}
            for span in side.spans
        ],
    }


def _label(label: Label) -> dict[str, Any]:
    return {
        "side": label.side,
        "start": label.start,
        "end": label.end,
        "verdict": label.verdict,
        "text": label.text,
        "created_at": label.created_at.isoformat(),
    }


def _preview(preview: PairPreview) -> dict[str, Any]:
    return {
        "missing": preview.missing,
        "method": preview.method.model_dump(mode="json"),
        "densities": [
            {
                "density": one.name,
                "rule": one.rule.model_dump(mode="json"),
                "likelihood_rule": one.likelihood_rule.model_dump(mode="json"),
                "kept": {side: seen.kept for side, seen in one.sides.items()},
                "counted": one.counted,
                "dpo": _dpo(one.plain),
                "dpo_with_safeguards": _dpo(one.guarded),
                "rjs": None
                if one.rjs is None
                else {"loss": one.rjs.loss, "kept": one.rjs.kept, "gradient": one.rjs.gradient.tolist()},
            }
            for one in preview.densities
        ],
    }


def _dpo(one: DpoPreview | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "margin": one.margin,
        "loss": one.loss,
        "preference": one.preference,
        "sft": one.sft,
        "masked_drift": one.masked_drift,
        "pull": one.pull,
        "clipped": one.clipped,
        "gradients": {side: track.tolist() for side, track in one.gradients.items()},
    }
