"""Counts and times for Prometheus, over all worker processes."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

# the folder in which worker processes leave their numbers for each other
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.requests = Counter("ranef_requests", "Requests by path and status.", ["path", "status"], registry=own)
        self.seconds = Histogram(
            "ranef_request_seconds",
            "Seconds from the whole body to the answer.",
            ["path"],
            registry=own,
            buckets=SECONDS,
        )
        self.fallbacks = Counter(
            "ranef_fallbacks", "Answers without an estimate of the user's own.", ["kind"], registry=own
        )
        self.events = Counter("ranef_events", "Events that were taken.", registry=own)
        self.reloads = Counter("ranef_reloads", "Models that were loaded, or could not be.", ["result"], registry=own)
        self.changed = Gauge(
            "ranef_changed_users", "Users whom events have changed.", registry=own, multiprocess_mode="livemax"
        )

    def text(self) -> bytes:
        """The exposition that Prometheus reads."""
        if FOLDER not in os.environ:
            return generate_latest(self.registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
        return generate_latest(everyone)
