"""Counts and times for Prometheus: of requests, images and batches; never of what an image shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """One registry per server, so that two in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        kept: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("kerasall_requests", "Requests answered.", ["route", "status"], **kept)
        self.images = Counter("kerasall_images", "Images, by outcome.", ["outcome"], **kept)
        self.answer_seconds = Histogram(
            "kerasall_answer_seconds", "From a whole request to its answer.", buckets=_SECONDS, **kept
        )
        self.model_seconds = Histogram(
            "kerasall_model_seconds", "One call of the model.", buckets=_SECONDS, **kept
        )
        self.batch_images = Histogram(
            "kerasall_batch_images", "Images in one call of the model.", buckets=_SIZES, **kept
        )
        self.waiting = Gauge("kerasall_waiting_images", "Images accepted and not yet answered.", **kept)
        self.ready = Gauge("kerasall_ready", "1 once the model is loaded and warm.", **kept)

    def count_request(self, scope: Mapping[str, Any], status: int) -> None:
        """Counts an answer by its route's pattern: an address made up by a client must not become a label."""
        self.requests.labels(getattr(scope.get("route"), "path", "other"), str(status)).inc()

    def render(self) -> bytes:
        """The text that Prometheus collects."""
        return generate_latest(self.registry)
