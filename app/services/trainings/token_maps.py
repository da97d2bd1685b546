"""Token maps of a training: some pairs, read by the model as it began and by every checkpoint that is kept.

A run of its own on the interactive queue, of kind `token_maps`, which outlives the checkpoints that it read.
Its rewards are tracks of the pairs' reward maps, one a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from pydantic import Field
from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session, joinedload

from app.db.maps import read_maps, write_chunk
from app.db.tables import Job, JobStatus, Pair, Run
from app.errors import Conflict, Invalid, NotFound, Problem
from app.services.datasets.datasets import canonical_row
from app.services.runs import jobs
from app.services.runs.kinds import RUN_KINDS, RunKind
from app.services.trainings import checkpoints
from app.services.trainings.requests import TRAINING, training_request
from engine.colouring import Colouring, colouring_of
from engine.fields import StrictModel
from engine.rounding import rounded_list
from engine.training.methods import METHODS
from engine.training.reports import Traced, track_of
from engine.types import Side

TOKEN_MAPS = "token_maps"  # noqa: S105 - a kind of runs
"""The kind of runs that read pairs by the checkpoints of a training."""
QUEUE = "interactive"
MOST_PAIRS = 20
BETA = 0.1
"""Of the rewards, where the method has none of its own."""


class TokenMapsBody(StrictModel):
    """The body of `POST /api/v1/trainings/{id}/token-maps`."""

    pair_ids: list[int] = Field(min_length=1, max_length=MOST_PAIRS)
    """Pairs of one data set."""


@dataclass(frozen=True, slots=True)
class StepTotals:
    """What the model of a step makes of the pair as a whole."""

    step: int
    chosen: float | None
    """Reward of the whole response: the sum of its tokens' rewards; None where the pair lacks the side."""
    rejected: float | None
    margin: float | None


@dataclass(frozen=True, slots=True)
class TracedSide:
    """One response, with the reward of every token at every step."""

    side: Side
    text: str
    offsets: np.ndarray
    """Code points [start, end) of every token."""
    eos: str | None
    rewards: Mapping[int, Float32[np.ndarray, " response"]]
    """By step; NaN where missing."""

    def numbers(self, step: int) -> list[float | int | None]:
        """The rewards of a step to five digits; None where one is missing."""
        return rounded_list(self.rewards[step])


@dataclass(frozen=True)
class TokenMaps:
    """A pair over the steps of a training."""

    run: Run
    """The run that read it."""
    pair: Pair
    beta: float
    steps: list[int]
    sides: list[TracedSide]
    """Chosen first."""
    totals: list[StepTotals]
    """One a step."""

    @cached_property
    def colouring(self) -> Colouring:
        """One scale for all steps, or nothing could be seen to grow."""
        return colouring_of(track for side in self.sides for track in side.rewards.values())

    def levels(self, side: TracedSide, step: int) -> list[int | None]:
        """The class of colour of every token of a side at a step."""
        return self.colouring.levels(side.rewards[step])


def submit(session: Session, training_id: int, body: TokenMapsBody) -> Run:
    """A queued run that reads the pairs. Raises NotFound (training, pair), Conflict (nothing was trained
    yet), Invalid (pairs of several data sets, a training of a reward model)."""
    training = training_run(session, training_id)
    if not _steps_on_disk(session, training) and _final(training) is None:
        raise Conflict(
            f"Run {training_id} has left no checkpoint yet; wait for the first one.", code="no_checkpoints"
        )
    pairs = _pairs(session, list(dict.fromkeys(body.pair_ids)))
    names = ", ".join(pair.key for pair in pairs[:3]) + (" …" if len(pairs) > 3 else "")
    request = {
        "training": {"id": training.id, "name": training.name},
        "pairs": [{"id": pair.id, "key": pair.key} for pair in pairs],
        "beta": _beta(training),
    }
    return jobs.submit(
        session,
        kind=TOKEN_MAPS,
        name=f"Token maps of {training.name}: {names}"[:200],
        request=request,
        dataset_id=pairs[0].dataset_id,
        queue=QUEUE,
    )


WITHOUT_LOGPROBS = tuple(name for name, method in METHODS.items() if method.trains != "causal_lm")
"""Methods whose models give tokens no probability."""


def training_run(session: Session, run_id: int) -> Run:
    """The training, with its job. Raises NotFound, and Invalid where it trains no language model."""
    query = select(Run).where(Run.id == run_id, Run.kind == TRAINING).options(joinedload(Run.job))
    run = session.scalar(query)
    if run is None:
        raise NotFound(f"There is no training {run_id}; the list of runs shows those that exist.")
    if run.request["method"]["name"] in WITHOUT_LOGPROBS:
        raise Invalid(
            f"Run {run_id} trains a reward model, which gives tokens no probability; score the pair with it "
            "instead."
        )
    return run


_NEWEST_TRAINING = (
    select(Run.id, Run.name)
    .join(Job, Job.run_id == Run.id)
    .where(
        Run.kind == TRAINING,
        Run.dataset_id == bindparam("dataset_id"),
        Run.request[("method", "name")].as_string().not_in(WITHOUT_LOGPROBS),
        Job.status == JobStatus.succeeded,
    )
    .order_by(Run.id.desc())
    .limit(1)
)


def newest_training(session: Session, dataset_id: int) -> tuple[int, str] | None:
    """Id and name of the training on a data set that succeeded last and left a language model."""
    found = session.execute(_NEWEST_TRAINING, {"dataset_id": dataset_id}).first()
    return None if found is None else (found.id, found.name)


def latest(session: Session, training_id: int, pair_id: int) -> Run | None:
    """The newest run that reads, or has read, this pair for the training; it may have failed."""
    query = (
        select(Run)
        .join(Job, Job.run_id == Run.id)
        .where(
            Run.kind == TOKEN_MAPS,
            Run.request.contains({"training": {"id": training_id}, "pairs": [{"id": pair_id}]}),
        )
        .options(joinedload(Run.job))
        .order_by(Run.id.desc())
        .limit(1)
    )
    return session.scalar(query)


def read_pairs(session: Session, training_id: int) -> list[tuple[int, str]]:
    """The pairs that have been read for the training, newest first: id and key of each."""
    query = (
        select(Run)
        .join(Job, Job.run_id == Run.id)
        .where(
            Run.kind == TOKEN_MAPS,
            Run.request.contains({"training": {"id": training_id}}),
            Job.status == JobStatus.succeeded,
        )
        .order_by(Run.id.desc())
        .limit(100)
    )
    found = {pair["id"]: pair["key"] for run in session.scalars(query) for pair in run.request["pairs"]}
    there = set(session.scalars(select(Pair.id).where(Pair.id.in_(found))))
    return [(pair_id, key) for pair_id, key in found.items() if pair_id in there]


def is_there(session: Session, run_id: int) -> bool:
    """Whether a run that was named once is there still."""
    return session.scalar(select(Run.id).where(Run.id == run_id)) is not None


def token_maps(session: Session, training_id: int, pair_id: int) -> TokenMaps:
    """The pair over the steps. Raises NotFound (training, or nothing was read), Conflict (not yet)."""
    training_run(session, training_id)
    run = latest(session, training_id, pair_id)
    if run is None:
        raise NotFound(
            f"The checkpoints of run {training_id} have not read pair {pair_id}; ask for it with "
            f"`POST /api/v1/trainings/{training_id}/token-maps`."
        )
    if run.job.status != JobStatus.succeeded:
        raise Conflict(f"Run {run.id}, which reads the pair, is {run.job.status}.", code="not_read_yet")
    return maps_of(session, run, pair_id)


def maps_of(session: Session, run: Run, pair_id: int) -> TokenMaps:
    """The pair as a run that succeeded has read it."""
    steps: list[int] = (run.result or {})["steps"]
    views = read_maps(session, run.id, pair_id=pair_id)
    sides = [
        TracedSide(
            side=view.map.side,
            text=view.text,
            offsets=view.map.offsets,
            eos=view.map.eos,
            rewards={step: view.map.rewards[track_of(step)] for step in steps},
        )
        for view in views
    ]
    totals = {view.map.side: view.map.totals for view in views}
    return TokenMaps(
        run=run,
        pair=session.get_one(Pair, pair_id),
        beta=run.request["beta"],
        steps=steps,
        sides=sides,
        totals=[_totals(step, totals) for step in steps],
    )


def _totals(step: int, totals: Mapping[Side, Mapping[str, float]]) -> StepTotals:
    chosen = totals.get("chosen", {}).get(track_of(step))
    rejected = totals.get("rejected", {}).get(track_of(step))
    margin = None if chosen is None or rejected is None else chosen - rejected
    return StepTotals(step, chosen, rejected, margin)


# ------------------------------------------------------------------------------------------- for the job


def prepare(session: Session, run: Run, scratch: Path) -> dict[str, Any]:
    """The request of the job's process. Raises Conflict where the training or a pair was deleted since."""
    training = session.get(Run, run.request["training"]["id"])
    if training is None or training.kind != TRAINING:
        raise Conflict(
            f"The training `{run.request['training']['name']}` was deleted, and its checkpoints with it.",
            code="training_gone",
        )
    wanted = [pair["id"] for pair in run.request["pairs"]]
    found = {pair.id: pair for pair in session.scalars(select(Pair).where(Pair.id.in_(wanted)))}
    if len(found) < len(wanted):
        raise Conflict("A pair was deleted since; ask for the others again.", code="pair_gone")
    request = training_request(training.request).model_dump(mode="json")
    request["machine"]["device"] = "auto"  # As this worker's settings say, not as the training's machine had.
    return {
        "request": request,
        "pairs": [canonical_row(found[pair_id]) for pair_id in wanted],
        "checkpoints": {str(step): path for step, path in _steps_on_disk(session, training).items()},
        "final": _final(training),
        "steps": _steps(session, training),
        "beta": run.request["beta"],
    }


def store(session: Session, run: Run, attempt: int, chunk: Traced) -> None:
    """Stores the maps. Raises LostJob if the attempt does not hold the job."""
    job_id = session.scalars(select(Job.id).where(Job.run_id == run.id)).one()
    jobs.stored_up_to(session, job_id, attempt, 0)
    write_chunk(session, run.id, {pair["key"]: pair["id"] for pair in run.request["pairs"]}, chunk.maps)


def _pairs(session: Session, wanted: Sequence[int]) -> list[Pair]:
    found = {pair.id: pair for pair in session.scalars(select(Pair).where(Pair.id.in_(wanted)))}
    missing = next((pair_id for pair_id in wanted if pair_id not in found), None)
    if missing is not None:
        raise NotFound(f"There is no pair {missing}; open its data set to see the pairs that exist.")
    if len({pair.dataset_id for pair in found.values()}) > 1:
        raise Invalid(
            "The pairs are of several data sets; ask for those of one data set at a time.",
            errors=[Problem(("body", "pair_ids"), "are of several data sets")],
        )
    return [found[pair_id] for pair_id in wanted]


def _steps_on_disk(session: Session, training: Run) -> dict[int, str]:
    return {one.step: one.path for one in checkpoints.list_checkpoints(session, training.id)}


def _final(training: Run) -> str | None:
    """The folder of the model that the training left."""
    model = (training.result or {}).get("model")
    return None if model is None else str(model)


def _steps(session: Session, training: Run) -> int:
    """Updates that the training made altogether."""
    result = training.result or {}
    return int(result.get("steps") or max(_steps_on_disk(session, training), default=0))


def _beta(training: Run) -> float:
    """The method's own, where it is built on the implicit reward."""
    method = training_request(training.request).method
    return getattr(method, "beta", BETA)


RUN_KINDS.register(
    RunKind(name=TOKEN_MAPS, word="token maps", job="trace", prepare=prepare, store=store, is_reported=False)
)
