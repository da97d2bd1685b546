"""Training: curves, checkpoints, task suites and recipes.

Revision 0002, after 0001.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None


def _created_at() -> sa.Column[Any]:
    now = sa.text("now()")
    return sa.Column("created_at", sa.DateTime(timezone=True), server_default=now, nullable=False)


def upgrade() -> None:
    json = postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
    op.create_table(
        "recipes",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("request", json, nullable=False),
        sa.Column("plan", json, nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("error", json, nullable=True),
        _created_at(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recipes")),
    )
    op.add_column("runs", sa.Column("recipe_id", sa.BigInteger(), nullable=True))
    op.add_column("runs", sa.Column("recipe_step", sa.String(), nullable=True))
    op.add_column("runs", sa.Column("cloned_from", sa.BigInteger(), nullable=True))
    op.create_index(op.f("ix_runs_recipe_id"), "runs", ["recipe_id"])
    op.create_unique_constraint(op.f("uq_runs_recipe_id_recipe_step"), "runs", ["recipe_id", "recipe_step"])
    op.create_foreign_key(
        op.f("fk_runs_recipe_id_recipes"), "runs", "recipes", ["recipe_id"], ["id"], ondelete="SET NULL"
    )
    op.add_column("workers", sa.Column("memory_bytes", sa.BigInteger(), nullable=True))
    op.create_table(
        "metric_blocks",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("steps", sa.LargeBinary(), nullable=False),
        sa.Column("values", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_metric_blocks_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "name", "block", name=op.f("pk_metric_blocks")),
    )
    op.create_table(
        "checkpoints",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("metrics", json, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("is_best", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        _created_at(),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_checkpoints_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "step", name=op.f("pk_checkpoints")),
    )
    op.create_table(
        "task_suites",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("origin", json, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.Column("task_count", sa.BigInteger(), nullable=False),
        sa.Column("categories", json, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("runs_code", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_suites")),
        sa.UniqueConstraint("name", name=op.f("uq_task_suites_name")),
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("suite_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("task", json, nullable=False),
        sa.ForeignKeyConstraint(
            ["suite_id"], ["task_suites.id"], name=op.f("fk_tasks_suite_id_task_suites"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
        sa.UniqueConstraint("suite_id", "position", name=op.f("uq_tasks_suite_id_position")),
    )


def downgrade() -> None:
    op.drop_table("tasks")
    op.drop_table("task_suites")
    op.drop_table("checkpoints")
    op.drop_table("metric_blocks")
    op.drop_column("workers", "memory_bytes")
    op.drop_constraint(op.f("fk_runs_recipe_id_recipes"), "runs", type_="foreignkey")
    op.drop_constraint(op.f("uq_runs_recipe_id_recipe_step"), "runs", type_="unique")
    op.drop_index(op.f("ix_runs_recipe_id"), table_name="runs")
    for column in ("recipe_id", "recipe_step", "cloned_from"):
        op.drop_column("runs", column)
    op.drop_table("recipes")
