"""Two workers behind one address: each scrape shows one of them, under a name of its own."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

from jwks_guard.testing import LocalTenant
from tests.process.programs import server, wait_until

APP = "tests.process.apps.measured:app"
SECRET = "correct-horse-battery"
REQUESTS = 20


def accepted(client: httpx.Client) -> dict[str, float]:
    """How many tokens the worker that answers has accepted, by its name."""
    answer = client.get("/ops/metrics", headers={"Authorization": f"Bearer {SECRET}"})
    return {
        sample.labels["process"]: sample.value
        for metric in text_string_to_metric_families(answer.text)
        for sample in metric.samples
        if sample.name == "jwks_guard_verifications_total"
        and sample.labels["outcome"] == "accepted"
    }


def test_counters_of_two_workers_have_series_of_their_own_that_add_up() -> None:
    with (
        LocalTenant(algorithm="ES256") as tenant,
        server(
            *("-m", "uvicorn", "--workers=2", "--log-level=warning", APP),
            bind="--fd={}",
            ISSUER=tenant.issuer,
            AUDIENCE=tenant.audience,
            SECRET=SECRET,
        ) as client,
    ):
        headers = {"Authorization": f"Bearer {tenant.token()}"}
        for _ in range(REQUESTS):
            assert client.get("/", headers=headers).status_code == 200
        counts: dict[str, float] = {}

        def all_seen() -> bool:
            shown = accepted(client)
            assert len(shown) == 1
            counts.update(shown)
            return len(counts) == 2

        wait_until(all_seen)
        assert sum(counts.values()) == REQUESTS
