"""The tables. One fact in one place: a run has no status, its job has; segments and pair scores are derived
from reward tracks and a rule, and are written again whenever either changes.

data set ── pairs           what was brought
model                       what can score
run ── job ── log lines     what was asked, its work, and what that said
run ── reward maps ── tracks what was found: one map a response, one track a source
run ── source statistics, pair scores, segments   what tables sort by
run ── metric blocks, checkpoints   what a training left
task suite ── tasks         what evaluations ask
recipe ── runs              several runs that were asked for at once
pair ── segment labels      what people said of stretches of its responses
data set ── saved views     tables that somebody wants to come back to
webhook ── deliveries       who is told of finished runs, and what was told
"""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db.base import Base


class JobStatus(enum.StrEnum):
    queued = "queued"  # waits for a worker
    running = "running"  # a worker holds it and reports
    succeeded = "succeeded"  # all of its result is stored
    failed = "failed"  # ended with a sentence for the user
    crashed = "crashed"  # ended with a bug, a kill or a dead machine
    cancelled = "cancelled"  # somebody asked it to stop, and it did

    @property
    def is_over(self) -> bool:
        return self not in (JobStatus.queued, JobStatus.running)


PAIR_WORDS = " || ".join(
    f"to_tsvector('simple'::regconfig, \"left\"(COALESCE({column}, ''::text), 50000))"
    for column in (
        "prompt::text",
        "replace(messages::text, '\\n'::text, ' '::text)",
        "chosen::text",
        "rejected::text",
    )
)
"""The words of a pair's texts, as PostgreSQL's full-text search sees them, without a language. Of a longer
text it is the first 50,000 characters: more than 1 MiB of words is an error to PostgreSQL."""


class Dataset(Base):
    """A preference data set as it was brought."""

    __tablename__ = "datasets"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    origin: Mapped[dict[str, Any]]
    """{"kind": "upload" | "folder" | "demo" | "playground", ...}: where it came from. Where there are any,
    "identical_sides" counts the pairs whose sides say the same."""
    content_hash: Mapped[str]
    """SHA-256 of the canonical rows: equal data has an equal hash, whatever file it came in."""
    pair_count: Mapped[int]
    response_count: Mapped[int]
    annotated: Mapped[bool]
    """Whether any response has labelled spans."""
    has_token_rewards: Mapped[bool]
    skipped_rows: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    """[{line, field, reason}] of the rows that `on_error=skip` left out, at most 1,000 of them."""
    skipped_count: Mapped[int] = mapped_column(server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Pair(Base):
    """One row: a prompt and its chosen and rejected response."""

    __tablename__ = "pairs"
    __table_args__ = (
        UniqueConstraint("dataset_id", "position"),
        UniqueConstraint("dataset_id", "key"),
        CheckConstraint("chosen IS NOT NULL OR rejected IS NOT NULL", name="has_a_side"),
        Index("ix_pairs_words", text(f"({PAIR_WORDS})"), postgresql_using="gin"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    position: Mapped[int]
    """Place in the data set, from 0, without gaps."""
    key: Mapped[str]
    """The user's name for the row."""
    prompt: Mapped[str | None]
    """A plain prompt, or None where `messages` holds a conversation."""
    messages: Mapped[list[Any] | None]
    """[{role, content}] of a conversational prompt."""
    chosen: Mapped[str | None]
    rejected: Mapped[str | None]
    chosen_extras: Mapped[dict[str, Any] | None]
    """What came with the response besides its text: {"spans": [...], "token_rewards": [...], ...}, as
    `engine.formats` writes a row."""
    rejected_extras: Mapped[dict[str, Any] | None]
    meta: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class Model(Base):
    """A model that was looked at and may be named in requests."""

    __tablename__ = "models"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    path: Mapped[str]
    revision: Mapped[str | None]
    kind: Mapped[str]
    """`causal_lm` or `sequence_classifier`."""
    architecture: Mapped[str]
    parameters: Mapped[int | None]
    vocab_size: Mapped[int | None]
    context: Mapped[int | None]
    has_chat_template: Mapped[bool]
    fingerprint: Mapped[str]
    trust_remote_code: Mapped[bool] = mapped_column(server_default=text("false"))
    origin: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Run(Base):
    """What was asked, and all it left."""

    __tablename__ = "runs"
    __table_args__ = (
        Index("ix_runs_kind_id", "kind", "id"),
        UniqueConstraint("recipe_id", "recipe_step"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    """The name of its run kind, as `app.services.run_kinds` knows them."""
    name: Mapped[str]
    dataset_id: Mapped[int | None] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), index=True)
    request: Mapped[dict[str, Any]]
    """The whole request, resolved: defaults and model paths filled in."""
    result: Mapped[dict[str, Any] | None]
    """What the job returned; None until it succeeded."""
    recipe_id: Mapped[int | None] = mapped_column(ForeignKey("recipes.id", ondelete="SET NULL"), index=True)
    """The recipe that it is a step of."""
    recipe_step: Mapped[str | None]
    """Which step: a name of the recipe's plan."""
    cloned_from: Mapped[int | None]
    """The run whose request it began with, which may be gone."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    job: Mapped[Job] = relationship(back_populates="run", lazy="raise", uselist=False, passive_deletes="all")
    dataset: Mapped[Dataset | None] = relationship(lazy="raise")


class Job(Base):
    """The work of a run, one job a run; a retry or a dead worker gives it a higher attempt."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_status_id", "status", "id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), unique=True)
    queue: Mapped[str] = mapped_column(server_default="default")
    priority: Mapped[int] = mapped_column(server_default=text("0"))
    """Higher runs earlier."""
    status: Mapped[str] = mapped_column(server_default="queued")
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    """How often a worker took it up; reports of an earlier attempt are refused."""
    losses: Mapped[int] = mapped_column(server_default=text("0"))
    """How often in a row a worker died under it before anything was stored; past a limit it is crashed."""
    queue_job_id: Mapped[int | None]
    """Its row in procrastinate's table."""
    phase: Mapped[str] = mapped_column(server_default="")
    done: Mapped[int] = mapped_column(server_default=text("0"))
    total: Mapped[int | None]
    unit: Mapped[str] = mapped_column(server_default="")
    phase_started_at: Mapped[datetime | None]
    """When the phase began in this attempt, with `phase_start_done` of it done: what an ETA is made of."""
    phase_start_done: Mapped[int] = mapped_column(server_default=text("0"))
    resume_from: Mapped[int] = mapped_column(server_default=text("0"))
    """Position of the first pair that is not stored yet; of a training, updates whose points are stored."""
    error: Mapped[dict[str, Any] | None]
    """{code, detail, traceback?} of a failed or crashed attempt."""
    worker_name: Mapped[str | None]
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    run: Mapped[Run] = relationship(back_populates="job", lazy="raise")


class JobLog(Base):
    """One line that a job said."""

    __tablename__ = "job_logs"
    __table_args__ = (Index("ix_job_logs_job_id_id", "job_id", "id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    level: Mapped[str]
    """`info`, `warning`, `error`, or `output` for what the process itself printed."""
    message: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class WorkerRow(Base):
    """A worker that joined, for the page of who runs where."""

    __tablename__ = "workers"
    name: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    version: Mapped[str]
    device: Mapped[str]
    queues: Mapped[list[Any]]
    memory_bytes: Mapped[int | None]
    """Of the machine, or of the accelerator where its device names one; None where nobody knows."""
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=func.now())


class StoredMap(Base):
    """A reward map's tokens and tracks that are no rewards, as compressed arrays (see `db/maps.py`)."""

    __tablename__ = "reward_maps"
    __table_args__ = (
        UniqueConstraint("run_id", "pair_id", "side"),
        Index("ix_reward_maps_pair_id", "pair_id"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    pair_id: Mapped[int] = mapped_column(ForeignKey("pairs.id", ondelete="CASCADE"))
    side: Mapped[str]
    tokens: Mapped[int]
    eos: Mapped[str | None]
    prompt_tokens: Mapped[int]
    truncated_prompt_tokens: Mapped[int]
    token_ids: Mapped[bytes]
    offsets: Mapped[bytes]
    logprobs: Mapped[bytes | None]
    reference_logprobs: Mapped[bytes | None]
    entropies: Mapped[bytes | None]
    ranks: Mapped[bytes | None]


class RewardTrack(Base):
    """The token rewards of one response by one source. Never changed once written."""

    __tablename__ = "reward_lanes"
    map_id: Mapped[int] = mapped_column(ForeignKey("reward_maps.id", ondelete="CASCADE"), primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    rewards: Mapped[bytes]
    total: Mapped[float | None]
    """Reward of the whole response by this source; None where it has none."""


class SourceStatistics(Base):
    """What a run knows of a source as a whole."""

    __tablename__ = "source_statistics"
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    rule: Mapped[dict[str, Any]]
    """The `SegmentationRule` by which segments and pair scores were written."""
    sketch: Mapped[dict[str, Any]]
    """`RewardStatistics` of all stored token rewards."""
    final: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether segments and pair scores were written with the statistics of the whole run; until then they are
    provisional: each chunk was cut with what was known when it came."""
    localisation: Mapped[dict[str, Any] | None]
    """How well low rewards find the labelled errors: {auroc, low, high, wrong_tokens, tokens}."""


class StoredSegment(Base):
    """A segment, for the questions that go across responses ("the most negative fifty")."""

    __tablename__ = "segments"
    __table_args__ = (Index("ix_segments_run_id_source_reward", "run_id", "source", "reward"),)
    map_id: Mapped[int] = mapped_column(ForeignKey("reward_maps.id", ondelete="CASCADE"), primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True)
    end: Mapped[int]
    run_id: Mapped[int]
    """As its map has it: to find segments of a run in order. The map's keys see to it; a second check of each
    of millions of rows would cost as much as writing it."""
    pair_id: Mapped[int]
    """As its map has it."""
    side: Mapped[str]
    polarity: Mapped[int]
    reward: Mapped[float | None]
    kept: Mapped[bool]
    disputed: Mapped[bool]


class PairScore(Base):
    """What the table of pairs sorts and filters by, for one run and source. None where it cannot be said."""

    __tablename__ = "pair_scores"
    __table_args__ = (
        Index(
            "ix_pair_scores_run_id_source_conflict",
            "run_id",
            "source",
            text("conflict DESC NULLS LAST"),
            "pair_id",
        ),
        Index("ix_pair_scores_run_id_source_margin", "run_id", "source", "margin", "pair_id"),
        Index("ix_pair_scores_run_id_source_min_reward", "run_id", "source", "min_reward", "pair_id"),
        Index("ix_pair_scores_run_id_source_max_reward", "run_id", "source", "max_reward", "pair_id"),
        Index("ix_pair_scores_run_id_source_pivots", "run_id", "source", "pivots", "pair_id"),
        Index("ix_pair_scores_run_id_source_tokens", "run_id", "source", "tokens", "pair_id"),
        Index("ix_pair_scores_pair_id", "pair_id"),
    )
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    pair_id: Mapped[int] = mapped_column(ForeignKey("pairs.id", ondelete="CASCADE"), primary_key=True)
    margin: Mapped[float | None]
    """Reward of the chosen response minus that of the rejected one."""
    min_reward: Mapped[float | None]
    max_reward: Mapped[float | None]
    pivots: Mapped[int]
    conflict: Mapped[float | None]
    """Conflict mass: the share of absolute reward that lies in segments that contradict the preference."""
    kept_chosen: Mapped[float | None]
    kept_rejected: Mapped[float | None]
    tokens: Mapped[int]


class MetricBlock(Base):
    """Up to 1,024 points of one curve of a run: what makes 100,000 points cheap to write and to read."""

    __tablename__ = "metric_blocks"
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    block: Mapped[int] = mapped_column(primary_key=True)
    """step // 1024 of its points."""
    steps: Mapped[bytes]
    """int32, little-endian, ascending."""
    values: Mapped[bytes]
    """float64, little-endian, one a step."""


class Checkpoint(Base):
    """Weights of a training that are on disk, with all that is needed to go on from them."""

    __tablename__ = "checkpoints"
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str]
    bytes: Mapped[int]
    metrics: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """Held-out metrics at this step."""
    is_best: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TaskSuite(Base):
    """Prompts with programmatic checks, for evaluations."""

    __tablename__ = "task_suites"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    origin: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    content_hash: Mapped[str]
    task_count: Mapped[int]
    categories: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """How many tasks each category has."""
    runs_code: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether any checker executes what the model wrote."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class StoredTask(Base):
    """One task of a suite, as `engine.tasks` writes it."""

    __tablename__ = "tasks"
    __table_args__ = (UniqueConstraint("suite_id", "position"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    suite_id: Mapped[int] = mapped_column(ForeignKey("task_suites.id", ondelete="CASCADE"))
    position: Mapped[int]
    task: Mapped[dict[str, Any]]


class Recipe(Base):
    """Runs that were asked for at once: scorer, scores, trainings, evaluations. Its status is theirs."""

    __tablename__ = "recipes"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    request: Mapped[dict[str, Any]]
    plan: Mapped[list[Any]]
    """Its steps in order: {"name", "kind", "needs": [names], "request"}; what a request takes from an earlier
    step is filled in when that step is done."""
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))
    error: Mapped[dict[str, Any] | None]
    """{code, detail, step}: why a step could not be submitted."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SegmentLabel(Base):
    """What a person said of a stretch of a response. It is of characters: a new cut leaves it where it is."""

    __tablename__ = "segment_labels"
    __table_args__ = (Index("ix_segment_labels_pair_id_side", "pair_id", "side"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    pair_id: Mapped[int] = mapped_column(ForeignKey("pairs.id", ondelete="CASCADE"))
    side: Mapped[str]
    start: Mapped[int]
    """Code points [start, end) of the response."""
    end: Mapped[int]
    verdict: Mapped[str]
    """`right`, `wrong` or `unsure`."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    removed_at: Mapped[datetime | None]
    """When it was taken back, or another one took its place; None while it counts. Rows stay, for undo."""


class SavedView(Base):
    """A table of pairs as somebody wants to find it again: filters, sort, columns, as its page's query."""

    __tablename__ = "saved_views"
    __table_args__ = (UniqueConstraint("dataset_id", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    name: Mapped[str]
    query: Mapped[dict[str, Any]]
    """Parameters of the page's address."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Webhook(Base):
    """An address that is told of runs that ended."""

    __tablename__ = "webhooks"
    id: Mapped[int] = mapped_column(primary_key=True)
    url: Mapped[str] = mapped_column(unique=True)
    secret: Mapped[str | None]
    """Signs what is sent (HMAC-SHA256); None for no signature."""
    statuses: Mapped[list[Any]]
    """Which ends are told: `succeeded`, `failed`, `crashed`, `cancelled`."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class WebhookDelivery(Base):
    """One end of a run that a webhook is told of, until it has been."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (Index("ix_webhook_deliveries_due_at", "due_at"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"), index=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    status: Mapped[str]
    """How the run ended."""
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    due_at: Mapped[datetime | None] = mapped_column(server_default=func.now())
    """When it is tried next; None once it was delivered or given up."""
    delivered_at: Mapped[datetime | None]
    error: Mapped[str | None]
    """Why the last try failed."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class IdempotencyKey(Base):
    """The first answer to a POST that carried an `Idempotency-Key`."""

    __tablename__ = "idempotency_keys"
    key: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    payload_hash: Mapped[str]
    status: Mapped[int | None]
    """HTTP status of the answer; None while the first request still runs."""
    headers: Mapped[dict[str, Any] | None]
    body: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
