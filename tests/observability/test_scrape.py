"""A served application is scraped as Prometheus does it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import httpx
import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from jwks_guard import TokenVerifier
from jwks_guard.asgi import JWKSGuardMiddleware, operations
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.server import ServerThread, listen

SECRET = "correct-horse-battery"
PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.fixture(scope="module")
def tenant() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as tenant:
        yield tenant


@pytest.fixture(scope="module")
def client(tenant: LocalTenant) -> Iterator[httpx.Client]:
    """A client of a guarded application that uvicorn serves."""
    verifier = TokenVerifier(tenant.issuer, tenant.audience)
    app = Starlette(
        routes=[Route("/", hello), Mount("/ops", operations(verifier, operations_auth=SECRET))]
    )
    app.add_middleware(JWKSGuardMiddleware, verifier=verifier, exclude_paths=["/ops/*"])
    listener = listen("127.0.0.1", 0)
    server = ServerThread(app, listener)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with httpx.Client(base_url=address, trust_env=False) as client:
            yield client
    finally:
        server.stop()


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


def scraped(client: httpx.Client, accept: str | None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {SECRET}"}
    if accept is not None:
        headers["Accept"] = accept
    answer = client.get("/ops/metrics", headers=headers)
    assert answer.status_code == 200
    return answer


def outcomes(families: Iterable[Metric]) -> dict[str, float]:
    return {
        sample.labels["outcome"]: sample.value
        for metric in families
        for sample in metric.samples
        if sample.name == "jwks_guard_verifications_total"
    }


def test_two_scrapes_show_what_was_served_between_them(
    tenant: LocalTenant, client: httpx.Client
) -> None:
    before = outcomes(text_string_to_metric_families(scraped(client, None).text))
    good = {"Authorization": f"Bearer {tenant.token()}"}
    forged = {"Authorization": f"Bearer {tenant.forged_token()}"}
    for _ in range(3):
        assert client.get("/", headers=good).status_code == 200
    assert client.get("/", headers=forged).status_code == 401
    after = outcomes(text_string_to_metric_families(scraped(client, None).text))
    assert after.pop("accepted") - before.pop("accepted") == 3
    assert after.pop("invalid_signature") - before.pop("invalid_signature") == 1
    assert after == before


def test_prometheus_is_answered_in_openmetrics(client: httpx.Client) -> None:
    answer = scraped(client, PROMETHEUS_ACCEPT)
    kind = answer.headers["content-type"]
    assert kind.startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert answer.text.endswith("# EOF\n")
    families: Iterable[Metric] = openmetrics_families(answer.text)  # type: ignore[no-untyped-call]
    names = {metric.name for metric in families}
    assert {"jwks_guard_build", "jwks_guard_verifications", "jwks_guard_status"} <= names


@pytest.mark.parametrize("accept", [None, "*/*", "", "text/plain"])
def test_anything_else_is_answered_in_the_text_format(
    client: httpx.Client, accept: str | None
) -> None:
    answer = scraped(client, accept)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert answer.headers["content-type"].count("charset") == 1
    assert "jwks_guard_verifications" in {
        metric.name for metric in text_string_to_metric_families(answer.text)
    }


@pytest.mark.parametrize(
    "accept", ["text/plain;version=abc", "application/openmetrics-text;version=x"]
)
def test_version_that_is_no_number_does_not_end_the_scrape(
    client: httpx.Client, accept: str
) -> None:
    assert "jwks_guard_verifications_total" in scraped(client, accept).text
