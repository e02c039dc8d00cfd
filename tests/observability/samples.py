"""What a registry shows at this moment."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from jwks_guard import MultiIssuerVerifier, SyncTokenVerifier, TokenVerifier
from jwks_guard.observability import VerifierCollector


def registry_of(*verifiers: TokenVerifier | SyncTokenVerifier | MultiIssuerVerifier) -> Registry:
    """An application's registry with a collector of these verifiers."""
    registry = Registry(auto_describe=True)
    registry.register(VerifierCollector(*verifiers))
    return registry


class Registry(CollectorRegistry):
    """A registry whose samples can be asked for by some of their labels."""

    def families(self) -> dict[str, Metric]:
        """The metrics by name."""
        return {metric.name: metric for metric in self.collect()}

    def values(self, sample: str, **labels: str) -> dict[tuple[str, ...], float]:
        """The samples of that name with those labels, by the values of their other ones.

        The process is left out.
        """
        return {
            tuple(v for k, v in sorted(one.labels.items()) if k not in {"process", *labels}): (
                one.value
            )
            for metric in self.collect()
            for one in metric.samples
            if one.name == sample and labels.items() <= one.labels.items()
        }

    def value(self, sample: str, **labels: str) -> float | None:
        """The value of the only sample of that name with those labels; None if there is none."""
        values = [*self.values(sample, **labels).values()]
        assert len(values) <= 1
        return values[0] if values else None
