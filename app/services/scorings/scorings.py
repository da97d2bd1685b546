"""Scoring a data set: what may be asked, what is stored while it runs, and the cut over the whole run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.maps import write_chunk
from app.db.tables import Dataset, Job, Model, Pair, Run, SourceStatistics, StoredMap
from app.errors import Conflict
from app.services.datasets.datasets import check_disk, columns_of, get_dataset, hold_dataset, write_rows
from app.services.models.models import ROLES, name_again
from app.services.runs import jobs
from app.services.runs.kinds import RUN_KINDS, Clone, RunKind
from app.services.scorings import cuts, rules
from app.services.scorings.requests import ScoringNumbers, find_models, resolve, score_request
from app.services.scorings.sources import SCORING, chosen_source, scoring_run, source_names
from app.settings import Settings
from engine.default_rules import STATED
from engine.fields import shown
from engine.requests import SourceRequest
from engine.rules import SegmentationRule
from engine.segmentation.statistics import RewardStatistics
from engine.sources import SOURCES
from engine.types import ScoredChunk


class ScoringRequest(ScoringNumbers):
    """The body of `POST /api/v1/scorings`."""

    dataset_id: int = Field(title="Data set")
    """The rows that are scored."""
    name: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        title="Name",
        json_schema_extra=shown(blank="made of the data set's name and the sources"),
    )
    """What the run is called."""
    chunk_pairs: int = Field(128, ge=1, le=10_000, title="Pairs per chunk")
    """Stored at a time: a run that is interrupted goes on after the last chunk."""


def submit(session: Session, settings: Settings, request: ScoringRequest) -> Run:
    """A queued run. Everything that can be wrong with the request is said now: NotFound (data set), Invalid
    (a model that does not fit its role, a source without its model or data), ModelError, Forbidden,
    StorageFull."""
    get_dataset(session, request.dataset_id)
    check_disk(settings)
    return submit_with(session, request, find_models(session, settings, request))


def submit_with(session: Session, request: ScoringRequest, models: Mapping[str, Model | None]) -> Run:
    """A queued run with these models, by their roles, whatever the request says of models."""
    dataset = hold_dataset(session, request.dataset_id)
    resolved = resolve(request, models, columns_of(dataset))
    resolved |= {"dataset_id": dataset.id, "dataset_name": dataset.name, "chunk_pairs": request.chunk_pairs}
    sources = [SourceRequest.model_validate(source) for source in resolved["sources"]]
    name = request.name or f"{dataset.name}: {', '.join(source.name for source in sources)}"
    run = jobs.submit(session, kind=SCORING, name=name, request=resolved, dataset_id=dataset.id)
    run.job.total, run.job.unit = dataset.pair_count, "pairs"
    for source in sources:
        assert source.rule is not None, "resolved requests state every rule"
        rule = source.rule.model_dump(mode="json")
        empty = RewardStatistics().to_dict()
        session.add(SourceStatistics(run_id=run.id, source=source.name, rule=rule, sketch=empty, final=False))
    session.flush()
    return run


def clone(session: Session, run: Run) -> Clone:
    """The body that asks for the same scoring once more."""
    fields = {name: run.request[name] for name in ScoringRequest.model_fields if name in run.request}
    made = run.request.get("made_rules", ())
    fields["sources"] = [one["name"] if one["name"] in made else one for one in run.request["sources"]]
    models = {role: name_again(session, run.request[role]) for role in ROLES}
    return Clone("scorings", ScoringRequest.model_validate({**fields, **models}))


def prepare(session: Session, run: Run, scratch: Path) -> dict[str, Any]:
    """The request of the job's process; writes the rows of the data set into `scratch`."""
    assert run.dataset_id is not None, "a scoring run has a data set"
    rows = scratch / "rows.jsonl"
    total = write_rows(session, run.dataset_id, rows)
    start = session.scalar(select(Job.resume_from).where(Job.run_id == run.id))
    return {"request": score_request(run.request), "rows": str(rows), "start": start, "total": total}


def store(session: Session, run: Run, attempt: int, chunk: ScoredChunk) -> None:
    """Stores a chunk of reward maps, with provisional segments and pair scores, and moves `resume_from`.

    A chunk that is stored already is let pass. Raises LostJob if the attempt does not hold the job.
    """
    job = session.scalars(select(Job).where(Job.run_id == run.id).with_for_update()).one()
    begun = job.resume_from
    jobs.stored_up_to(session, job.id, attempt, chunk.end)
    if chunk.end <= begun:
        return
    if chunk.start != begun:
        raise ValueError(f"Rows {begun} to {chunk.start} of run {run.id} were never stored.")
    pairs = _pair_ids(session, run, chunk)
    map_ids = write_chunk(session, run.id, pairs, chunk.maps)
    for source in source_names(run):
        row = _statistics(session, run.id, source)
        statistics = RewardStatistics.from_dict(row.sketch)
        statistics.add(np.concatenate([one.rewards[source] for one in chunk.maps]))
        row.sketch = statistics.to_dict()
        rule = SegmentationRule.model_validate(row.rule)
        cuts.write_maps(session, run.id, source, rule, statistics, pairs, map_ids, chunk.maps)
    session.flush()


def finish(session: Session, run: Run, result: dict[str, Any]) -> dict[str, Any]:
    """Cuts the whole run with its final statistics and returns what the run keeps as its result.

    Where nobody stated a rule, it is made of these rewards now; the run's request says which it was.
    Says the same when it is repeated, so that a worker that died in the middle may be followed by another.
    """
    annotated = session.scalar(select(Dataset.annotated).where(Dataset.id == run.dataset_id))
    masks: dict[str, Any] = {}
    made = run.request.get("made_rules", ())
    for source in source_names(run):
        row = _statistics(session, run.id, source)
        rule, statistics = SegmentationRule.model_validate(row.rule), RewardStatistics.from_dict(row.sketch)
        reason = "" if source in made else STATED
        masks[source] = rules.settled(session, run, source, rule, statistics, reason)
        if source in made:
            row.rule = masks[source]["made"]["rule"]
            rule = SegmentationRule.model_validate(row.rule)
        cuts.rewrite(session, run.id, source, rule, statistics)
        if annotated and "spans" not in SOURCES[source].needs:
            row.localisation = cuts.localisation(session, run.id, source)
        row.final = True
    run.request = {**run.request, "sources": [_as_cut(session, run, one) for one in run.request["sources"]]}
    session.flush()
    floor = {"surprisal": cuts.surprisal(session, run.id)} if annotated and run.request["policy"] else {}
    return {**result, **_totals(session, run.id), "masks": masks, **floor}


def recut(session: Session, run_id: int, source: str, rule: SegmentationRule) -> None:
    """Writes segments and pair scores of the run again by another rule.

    Raises NotFound (run), Invalid (source), Conflict while the run is still scored.
    """
    chosen_source(scoring_run(session, run_id), source)
    row = _statistics(session, run_id, source)
    if not row.final:
        raise Conflict(
            f"Run {run_id} is not scored to its end yet; wait until it has succeeded, and cut it then.",
            code="run_not_over",
        )
    statistics = RewardStatistics.from_dict(row.sketch)
    cuts.rewrite(session, run_id, source, rule, statistics)
    row.rule = rule.model_dump(mode="json")
    run = session.get_one(Run, run_id)
    found = run.result or {}
    masks = {
        **found.get("masks", {}),
        source: rules.settled(session, run, source, rule, statistics, rules.CUT_AGAIN),
    }
    run.result = {**found, "masks": masks}
    session.flush()


def _as_cut(session: Session, run: Run, asked: dict[str, Any]) -> dict[str, Any]:
    """The source with the rule that it is cut by."""
    return {**asked, "rule": _statistics(session, run.id, asked["name"]).rule}


def _statistics(session: Session, run_id: int, source: str) -> SourceStatistics:
    """The row, locked and as it is now: two who cut a run take turns."""
    return session.get_one(SourceStatistics, (run_id, source), with_for_update=True, populate_existing=True)


def _pair_ids(session: Session, run: Run, chunk: ScoredChunk) -> dict[str, int]:
    """The id of every pair of the chunk, by its key."""
    of_chunk = Pair.position.between(chunk.start, chunk.end - 1)
    query = select(Pair.key, Pair.id).where(Pair.dataset_id == run.dataset_id, of_chunk)
    return dict(session.execute(query).all())


def _totals(session: Session, run_id: int) -> dict[str, int]:
    """What the run holds altogether; a job that was resumed counted only its own part."""
    maps, tokens = session.execute(
        select(func.count(), func.coalesce(func.sum(StoredMap.tokens), 0)).where(StoredMap.run_id == run_id)
    ).one()
    pairs = session.scalar(select(func.count(StoredMap.pair_id.distinct())).where(StoredMap.run_id == run_id))
    return {"pairs": pairs or 0, "responses": maps, "tokens": int(tokens)}


RUN_KINDS.register(
    RunKind(
        name=SCORING,
        word="scoring",
        job="score",
        prepare=prepare,
        store=store,
        finish=finish,
        clone=clone,
    )
)
