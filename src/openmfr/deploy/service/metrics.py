"""What Prometheus may know: counts and times; nobody's name, and nothing of a face."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

#: Upper bounds of the times of requests, in seconds.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one service, in a registry of its own.

    Attributes:
        batch: Told the size of every batch.
    """

    media_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "openmfr_requests",
            "Requests that were answered",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "openmfr_request_seconds",
            "From the head of a request to the end of its answer",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batch = Histogram(
            "openmfr_batch_faces",
            "Faces that the network embedded in one call",
            buckets=_BATCHES,
            registry=self._registry,
        )
        self._taken = Gauge(
            "openmfr_places_taken", "Requests in the house", registry=self._registry
        )
        self._places = Gauge(
            "openmfr_places", "Requests that may be in the house", registry=self._registry
        )

    def watch_places(self, taken: Callable[[], float], places: int) -> None:
        """Show how full the house is."""
        self._taken.set_function(taken)
        self._places.set(places)

    def count(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request.

        Args:
            method: As the route declares it; anything else would let callers make names up.
            route: The template, not the path: a path has names in it.
            status: Of the answer.
            seconds: How long it took.
        """
        self._requests.labels(method=method, route=route, status=str(status)).inc()
        self._seconds.labels(route=route).observe(seconds)

    def text(self) -> bytes:
        """Write all in Prometheus' text format."""
        return generate_latest(self._registry)
