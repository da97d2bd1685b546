"""The JSON doors of the product, under one prefix."""

from __future__ import annotations

from fastapi import APIRouter

from rewardscope.app.api import (
    curves,
    datasets,
    demo,
    evaluations,
    events,
    labels,
    maps,
    models,
    pair_exports,
    previews,
    queue,
    recipes,
    records,
    runs,
    scores,
    scorings,
    segmentations,
    task_suites,
    token_maps,
    trainings,
    webhooks,
)

router = APIRouter()
for door in (
    datasets.router,
    models.router,
    scorings.router,
    trainings.router,
    token_maps.router,
    task_suites.router,
    evaluations.router,
    recipes.router,
    runs.router,
    events.router,
    maps.router,
    labels.pairs_router,
    labels.datasets_router,
    labels.runs_router,
    previews.router,
    pair_exports.router,
    records.router,
    curves.router,
    queue.jobs_router,
    queue.queue_router,
    queue.workers_router,
    segmentations.router,
    scores.router,
    demo.router,
    webhooks.router,
):
    router.include_router(door)
