"""What the service counts, in the form of Prometheus (docs/serve.md lists it)."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 32)
STAGES = ("body", "queue", "decode", "pose", "network")


class Metrics:
    """Counters of one service, in a registry of their own. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("featherpose_requests", "Answered requests.", ("path", "status"), **own)
        self.request_seconds = Histogram(
            "featherpose_request_seconds",
            "From a request's head to the end of its answer.",
            ("path",),
            buckets=SECONDS,
            **own,
        )
        self.photos = Counter("featherpose_photos", "Photos and frames looked at.", ("found",), **own)
        self.stage_seconds = Histogram(
            "featherpose_stage_seconds",
            "Seconds in each stage; 'pose' contains 'network'.",
            ("stage",),
            buckets=SECONDS,
            **own,
        )
        for stage in STAGES:
            self.stage_seconds.labels(stage)
        self.batch = Histogram("featherpose_batch_size", "Pictures of one run of the network.", buckets=BATCHES, **own)
        self.errors = Counter("featherpose_errors", "Requests, photos and frames refused.", ("kind",), **own)
        self.connections = Gauge("featherpose_connections", "Requests and WebSockets in progress.", ("kind",), **own)
        ProcessCollector(registry=self.registry)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A figure that is asked for when the metrics are read."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def stage(self, name: str, seconds: float) -> None:
        """Seconds that one photo, or one run of the network, spent in a stage of STAGES."""
        self.stage_seconds.labels(name).observe(seconds)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)
