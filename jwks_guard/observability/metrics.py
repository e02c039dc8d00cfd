"""What `/metrics` answers; needs prometheus_client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import (
    CONTENT_TYPE_LATEST,
    choose_encoder,
    generate_latest,
)
from prometheus_client.registry import Collector

from jwks_guard.observability.collector import families

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from jwks_guard.observability.reading import Shown


def rendered(now: Shown, accept: str) -> tuple[bytes, str]:
    """The metrics of what is shown now, and their Content-Type.

    They are in OpenMetrics where `accept`, the request's Accept header, asks for that, else in the
    text format of Prometheus.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_These(now))
    encode, content_type = _encoder(accept)
    return encode(registry), content_type


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # prometheus_client raises for a `version` that is no number
        return generate_latest, CONTENT_TYPE_LATEST


class _These(Collector):
    """Collects the metrics of what is shown."""

    def __init__(self, now: Shown) -> None:
        self._now = now

    def collect(self) -> Iterator[Metric]:
        return families(self._now)
