"""A text that the playground scored, read back as a pair is shown, and cut by any rule without a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from app.db.tables import Job, JobStatus, Pair, Run
from app.errors import Conflict, NotFound
from app.services.scorings.maps import CutPair, RunSource, SideView, agreement_of, cut, numbers_of
from app.services.scorings.scores import PLAYGROUND, read_map
from app.services.scorings.sources import SCORING, chosen_source, source_names
from engine.kept import kept_fraction
from engine.rules import SegmentationRule
from engine.segmentation.statistics import RewardStatistics
from engine.sources.registry import SOURCES
from engine.types import RewardMap

ROLES = ("policy", "reference", "reward_model")


def get_run(session: Session, run_id: int) -> Run:
    """The playground's run, with its job loaded. Raises NotFound, also for a run of another kind."""
    query = select(Run).where(Run.id == run_id, Run.kind == PLAYGROUND)
    run = session.scalar(query.options(joinedload(Run.job), joinedload(Run.dataset)))
    if run is None:
        raise NotFound(f"The playground has no run {run_id}; it was deleted, or scores a data set.")
    return run


def latest_models(session: Session) -> dict[str, str]:
    """The names of the models that a text or a data set was last scored with, by role."""
    query = select(Run).where(Run.kind.in_((PLAYGROUND, SCORING))).order_by(Run.id.desc()).limit(1)
    run = session.scalar(query)
    return {} if run is None else models_of(run)


def models_of(run: Run) -> dict[str, str]:
    """The names of the models of a run that scores, by role."""
    return {role: str(run.request[role]["name"]) for role in ROLES if run.request.get(role)}


def before(session: Session, run: Run) -> int:
    """How many jobs of the same queue run, or are taken up before this one."""
    job = run.job
    is_sooner = (Job.priority > job.priority) | (
        (Job.priority == job.priority) & (Job.queue_job_id < job.queue_job_id)
    )
    query = select(func.count(Job.id)).where(
        Job.queue == job.queue,
        Job.id != job.id,
        (Job.status == JobStatus.running) | ((Job.status == JobStatus.queued) & is_sooner),
    )
    return session.execute(query).scalar_one()


def scored_view(run: Run, source: str | None = None, rule: SegmentationRule | None = None) -> CutPair:
    """The texts of a run that succeeded, cut by `rule` (None: the run's own) from the rewards of `source`
    (None: the first). Baselines and scales are those of these responses alone.

    Raises Conflict (nothing is scored), Invalid (source), RequestError (a rule that asks for what was not
    scored).
    """
    maps = _maps(run)
    shown = chosen_source(run, source)
    sources = _sources(run, maps)
    known = next(one for one in sources if one.name == shown)
    rule = rule or known.rule
    statistics = _statistics(maps, shown)
    texts = run.request["pairs"][0]
    sides = []
    for one in maps:
        segmentation = cut(one, texts[one.side], shown, rule, statistics)
        sides.append(
            SideView(
                side=one.side,
                text=texts[one.side],
                map=one,
                segmentation=segmentation,
                spans=None,
                total=one.totals.get(shown),
                kept=kept_fraction(segmentation.mask),
            )
        )
    return CutPair(
        pair=_pair(texts),
        run=run,
        source=known,
        rule=rule,
        sides=sides,
        sources=sources,
        agreement=agreement_of(sides),
    )


def _maps(run: Run) -> list[RewardMap]:
    result = run.result or {}
    if run.job.status != JobStatus.succeeded or "lanes" not in result:
        raise Conflict(f"Run {run.id} has left nothing to show; score the text again.")
    kept = zip(result["maps"], result["lanes"], strict=True)
    return [read_map(record, beside) for record, beside in kept]


def _sources(run: Run, maps: Sequence[RewardMap]) -> list[RunSource]:
    rules = {one["name"]: SegmentationRule.model_validate(one["rule"]) for one in run.request["sources"]}
    return [
        RunSource(
            name=name,
            label=SOURCES[name].title,
            kind=SOURCES[name].kind,
            rule=rules[name],
            numbers=numbers_of(_statistics(maps, name), final=True),
            localisation=None,
        )
        for name in source_names(run)
    ]


def _statistics(maps: Sequence[RewardMap], source: str) -> RewardStatistics:
    statistics = RewardStatistics()
    for one in maps:
        statistics.add(one.rewards[source])
    return statistics


def _pair(texts: dict[str, Any]) -> Pair:
    """The texts as a pair that no table has."""
    prompt = texts["prompt"]
    return Pair(
        key="playground",
        position=0,
        prompt=prompt if isinstance(prompt, str) else None,
        messages=prompt if isinstance(prompt, list) else None,
        chosen=texts.get("chosen"),
        rejected=texts.get("rejected"),
    )
