"""The JSON doors of the product, under one prefix."""

from __future__ import annotations

from fastapi import APIRouter

from app.api import demo
from app.api.datasets import datasets
from app.api.evaluations import evaluations, task_suites
from app.api.models import models
from app.api.pairs import exports as pair_exports
from app.api.pairs import labels, previews
from app.api.recipes import recipes
from app.api.runs import events, queue, runs, webhooks
from app.api.scorings import maps, records, scores, scorings, segmentations
from app.api.trainings import curves, token_maps, trainings

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
