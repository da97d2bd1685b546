"""The JSON doors of the product, under one prefix."""

from __future__ import annotations

from fastapi import APIRouter

from rewardscope.app.api import (
    datasets,
    demo,
    events,
    maps,
    models,
    queue,
    records,
    runs,
    scores,
    scorings,
    segmentations,
)

router = APIRouter()
for door in (
    datasets.router,
    models.router,
    scorings.router,
    runs.router,
    events.router,
    maps.router,
    records.router,
    queue.jobs_router,
    queue.workers_router,
    segmentations.router,
    scores.router,
    demo.router,
):
    router.include_router(door)
