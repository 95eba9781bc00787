"""Numbers for Prometheus: requests by path and status, seconds, batches, what waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from aigc_cli.run.serving.limits import App, Message, Receive, Scope, Send

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class Metrics:
    """Counted for one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("aigc_requests", "Requests", ["path", "status"], **own)
        self.seconds = Histogram(
            "aigc_request_seconds", "Time to answer", ["path"], buckets=SECONDS, **own
        )
        self.batches = Histogram(
            "aigc_batch_size", "Requests in a batch", ["model"], buckets=(1, 2, 4, 8, 16), **own
        )
        self.model_seconds = Histogram(
            "aigc_model_seconds", "Time of the model", ["model"], buckets=SECONDS, **own
        )

    def waiting(self, count: Callable[[], int]) -> None:
        """`count` says how many requests wait."""
        gauge = Gauge("aigc_waiting", "Requests that wait", registry=self.registry)
        gauge.set_function(count)

    def batch(self, model: str, size: int, seconds: float) -> None:
        self.batches.labels(model).observe(size)
        self.model_seconds.labels(model).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class Counted:
    """Counts the requests of an application; paths that are none are counted together."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(path, status).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - begun)
