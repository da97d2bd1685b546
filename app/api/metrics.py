"""Figures for Prometheus: answers by route, jobs by status, workers alive. No label holds an id."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """One application's figures; a registry of its own, so that tests may make many applications."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "rewardscope_http_answers",
            "Answers, by method, route and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "rewardscope_http_seconds",
            "Seconds until an answer began, by method and route.",
            ("method", "route"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._jobs = Gauge("rewardscope_jobs", "Jobs, by status.", ("status",), registry=self.registry)
        self._workers = Gauge("rewardscope_workers", "Workers that are alive.", registry=self.registry)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one answer; `route` is the template of its path."""
        method = method if method in METHODS else "(other)"
        self._answers.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def render(self, jobs: Mapping[str, int], workers: int) -> bytes:
        """The text that Prometheus reads, with these numbers of jobs and workers."""
        for status, count in jobs.items():
            self._jobs.labels(status).set(count)
        self._workers.set(workers)
        return generate_latest(self.registry)
