"""First tables: ours as the models state them, and the queue's as procrastinate 3.10 brings them.

Revision 0001, after nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from procrastinate.schema import SchemaManager
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

BLOBS = {
    "reward_maps": ("token_ids", "offsets", "logprobs", "reference_logprobs", "entropies", "ranks"),
    "reward_lanes": ("rewards",),
}
PAIR_WORDS = " || ".join(
    f"to_tsvector('simple'::regconfig, \"left\"(COALESCE({column}, ''::text), 50000))"
    for column in (
        "prompt::text",
        "replace(messages::text, '\\n'::text, ' '::text)",
        "chosen::text",
        "rejected::text",
    )
)
DROP_QUEUE = """
DO $$
DECLARE
    thing record;
BEGIN
    DROP TABLE procrastinate_periodic_defers, procrastinate_events, procrastinate_jobs, procrastinate_workers
        CASCADE;
    FOR thing IN SELECT oid::regprocedure AS name FROM pg_proc
        WHERE proname LIKE 'procrastinate\\_%' AND pronamespace = current_schema()::regnamespace
    LOOP
        EXECUTE 'DROP FUNCTION ' || thing.name;
    END LOOP;
    DROP TYPE procrastinate_job_to_defer_v1, procrastinate_job_event_type, procrastinate_job_status;
END
$$;
"""


def execute_script(script: str) -> None:
    """Run several statements at once, with no parameter in them: a % means itself."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute(script)


def upgrade() -> None:
    op.create_table(
        "datasets",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("origin", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.Column("pair_count", sa.BigInteger(), nullable=False),
        sa.Column("response_count", sa.BigInteger(), nullable=False),
        sa.Column("annotated", sa.Boolean(), nullable=False),
        sa.Column("has_token_rewards", sa.Boolean(), nullable=False),
        sa.Column(
            "skipped_rows",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.Column("skipped_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
        sa.UniqueConstraint("name", name=op.f("uq_datasets_name")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("payload_hash", sa.String(), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=True),
        sa.Column("headers", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("body", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("key", "route", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "models",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("revision", sa.String(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("architecture", sa.String(), nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=True),
        sa.Column("vocab_size", sa.BigInteger(), nullable=True),
        sa.Column("context", sa.BigInteger(), nullable=True),
        sa.Column("has_chat_template", sa.Boolean(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("trust_remote_code", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "origin",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
        sa.UniqueConstraint("name", name=op.f("uq_models_name")),
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("queues", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "heartbeat_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
    )
    op.create_table(
        "pairs",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("prompt", sa.String(), nullable=True),
        sa.Column("messages", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("chosen", sa.String(), nullable=True),
        sa.Column("rejected", sa.String(), nullable=True),
        sa.Column("chosen_extras", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column(
            "rejected_extras", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
        sa.Column(
            "meta",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.CheckConstraint("chosen IS NOT NULL OR rejected IS NOT NULL", name=op.f("ck_pairs_has_a_side")),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_pairs_dataset_id_datasets"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pairs")),
        sa.UniqueConstraint("dataset_id", "key", name=op.f("uq_pairs_dataset_id_key")),
        sa.UniqueConstraint("dataset_id", "position", name=op.f("uq_pairs_dataset_id_position")),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("dataset_id", sa.BigInteger(), nullable=True),
        sa.Column("request", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("result", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_runs_dataset_id_datasets"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_index(op.f("ix_runs_dataset_id"), "runs", ["dataset_id"], unique=False)
    op.create_index("ix_runs_kind_id", "runs", ["kind", "id"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("queue", sa.String(), server_default="default", nullable=False),
        sa.Column("priority", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("status", sa.String(), server_default="queued", nullable=False),
        sa.Column("attempt", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("losses", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("queue_job_id", sa.BigInteger(), nullable=True),
        sa.Column("phase", sa.String(), server_default="", nullable=False),
        sa.Column("done", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=True),
        sa.Column("unit", sa.String(), server_default="", nullable=False),
        sa.Column("phase_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("phase_start_done", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("resume_from", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("worker_name", sa.String(), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_jobs_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("run_id", name=op.f("uq_jobs_run_id")),
    )
    op.create_index("ix_jobs_status_id", "jobs", ["status", "id"], unique=False)
    op.create_table(
        "pair_scores",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("pair_id", sa.BigInteger(), nullable=False),
        sa.Column("margin", sa.Double(), nullable=True),
        sa.Column("min_reward", sa.Double(), nullable=True),
        sa.Column("max_reward", sa.Double(), nullable=True),
        sa.Column("pivots", sa.BigInteger(), nullable=False),
        sa.Column("conflict", sa.Double(), nullable=True),
        sa.Column("kept_chosen", sa.Double(), nullable=True),
        sa.Column("kept_rejected", sa.Double(), nullable=True),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["pair_id"], ["pairs.id"], name=op.f("fk_pair_scores_pair_id_pairs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_pair_scores_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "source", "pair_id", name=op.f("pk_pair_scores")),
    )
    op.create_index("ix_pair_scores_pair_id", "pair_scores", ["pair_id"], unique=False)
    op.create_index(
        "ix_pair_scores_run_id_source_conflict",
        "pair_scores",
        ["run_id", "source", sa.literal_column("conflict DESC NULLS LAST"), "pair_id"],
        unique=False,
    )
    op.create_index(
        "ix_pair_scores_run_id_source_margin",
        "pair_scores",
        ["run_id", "source", "margin", "pair_id"],
        unique=False,
    )
    op.create_index(
        "ix_pair_scores_run_id_source_max_reward",
        "pair_scores",
        ["run_id", "source", "max_reward", "pair_id"],
        unique=False,
    )
    op.create_index(
        "ix_pair_scores_run_id_source_min_reward",
        "pair_scores",
        ["run_id", "source", "min_reward", "pair_id"],
        unique=False,
    )
    op.create_index(
        "ix_pair_scores_run_id_source_pivots",
        "pair_scores",
        ["run_id", "source", "pivots", "pair_id"],
        unique=False,
    )
    op.create_index(
        "ix_pair_scores_run_id_source_tokens",
        "pair_scores",
        ["run_id", "source", "tokens", "pair_id"],
        unique=False,
    )
    op.create_table(
        "reward_maps",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("pair_id", sa.BigInteger(), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("eos", sa.String(), nullable=True),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("truncated_prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("token_ids", sa.LargeBinary(), nullable=False),
        sa.Column("offsets", sa.LargeBinary(), nullable=False),
        sa.Column("logprobs", sa.LargeBinary(), nullable=True),
        sa.Column("reference_logprobs", sa.LargeBinary(), nullable=True),
        sa.Column("entropies", sa.LargeBinary(), nullable=True),
        sa.Column("ranks", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["pair_id"], ["pairs.id"], name=op.f("fk_reward_maps_pair_id_pairs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_reward_maps_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reward_maps")),
        sa.UniqueConstraint("run_id", "pair_id", "side", name=op.f("uq_reward_maps_run_id_pair_id_side")),
    )
    op.create_index("ix_reward_maps_pair_id", "reward_maps", ["pair_id"], unique=False)
    op.create_table(
        "source_statistics",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("rule", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("sketch", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("final", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("localisation", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_source_statistics_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "source", name=op.f("pk_source_statistics")),
    )
    op.create_table(
        "job_logs",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_logs_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_logs")),
    )
    op.create_index("ix_job_logs_job_id_id", "job_logs", ["job_id", "id"], unique=False)
    op.create_table(
        "reward_lanes",
        sa.Column("map_id", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("rewards", sa.LargeBinary(), nullable=False),
        sa.Column("total", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["map_id"],
            ["reward_maps.id"],
            name=op.f("fk_reward_lanes_map_id_reward_maps"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("map_id", "source", name=op.f("pk_reward_lanes")),
    )
    op.create_table(
        "segments",
        sa.Column("map_id", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("pair_id", sa.BigInteger(), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("polarity", sa.BigInteger(), nullable=False),
        sa.Column("reward", sa.Double(), nullable=True),
        sa.Column("kept", sa.Boolean(), nullable=False),
        sa.Column("disputed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["map_id"], ["reward_maps.id"], name=op.f("fk_segments_map_id_reward_maps"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("map_id", "source", "start", name=op.f("pk_segments")),
    )
    op.create_index(
        "ix_segments_run_id_source_reward", "segments", ["run_id", "source", "reward"], unique=False
    )
    op.create_index("ix_pairs_words", "pairs", [sa.text(f"({PAIR_WORDS})")], postgresql_using="gin")
    # The blobs are compressed already: PostgreSQL would only spend time on trying again.
    for table, columns in BLOBS.items():
        for column in columns:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL")
    # procrastinate is pinned to one version, so that its schema here never changes under us.
    execute_script(SchemaManager.get_schema())


def downgrade() -> None:
    execute_script(DROP_QUEUE)
    op.drop_index("ix_segments_run_id_source_reward", table_name="segments")
    op.drop_table("segments")
    op.drop_table("reward_lanes")
    op.drop_index("ix_job_logs_job_id_id", table_name="job_logs")
    op.drop_table("job_logs")
    op.drop_table("source_statistics")
    op.drop_index("ix_reward_maps_pair_id", table_name="reward_maps")
    op.drop_table("reward_maps")
    op.drop_index("ix_pair_scores_run_id_source_tokens", table_name="pair_scores")
    op.drop_index("ix_pair_scores_run_id_source_pivots", table_name="pair_scores")
    op.drop_index("ix_pair_scores_run_id_source_min_reward", table_name="pair_scores")
    op.drop_index("ix_pair_scores_run_id_source_max_reward", table_name="pair_scores")
    op.drop_index("ix_pair_scores_run_id_source_margin", table_name="pair_scores")
    op.drop_index("ix_pair_scores_run_id_source_conflict", table_name="pair_scores")
    op.drop_index("ix_pair_scores_pair_id", table_name="pair_scores")
    op.drop_table("pair_scores")
    op.drop_index("ix_jobs_status_id", table_name="jobs")
    op.drop_table("jobs")
    op.drop_index("ix_runs_kind_id", table_name="runs")
    op.drop_index(op.f("ix_runs_dataset_id"), table_name="runs")
    op.drop_table("runs")
    op.drop_index("ix_pairs_words", table_name="pairs")
    op.drop_table("pairs")
    op.drop_table("workers")
    op.drop_table("models")
    op.drop_index(op.f("ix_idempotency_keys_created_at"), table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_table("datasets")
