from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from jwks_guard.testing import LocalTenant
from tests.process.programs import server, wait_until

GUNICORN = ("-m", "gunicorn", "--no-control-socket", "--preload", "--workers=2")
APP = "tests.process.apps.preloaded:app"

pytestmark = pytest.mark.outside


class Workers:
    """The two workers of one gunicorn."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def ask(self, path: str, token: str = "none") -> dict[str, str]:
        """What each of them says to the same request."""
        said: dict[str, str] = {}

        def both_answered() -> bool:
            answer = self._client.get(path, headers={"Authorization": f"Bearer {token}"})
            text = answer.text if answer.is_success else str(answer.status_code)
            said.setdefault(answer.headers["X-Worker"], text)
            return len(said) == 2

        wait_until(both_answered)
        return said

    def agree(self, path: str, token: str) -> str:
        """What they say, which has to be the same."""
        (said,) = set(self.ask(path, token).values())
        return said


@pytest.fixture(params=["asgi", "uvicorn.workers.UvicornWorker"])
def workers(
    request: pytest.FixtureRequest, local_tenant: LocalTenant, tmp_path: Path
) -> Iterator[Workers]:
    """Workers of gunicorn's own class, and of uvicorn's; each request goes to either of them."""
    leaked = local_tenant.token()
    local_tenant.rotate()
    with server(
        *GUNICORN,
        f"--worker-class={request.param}",
        APP,
        bind="--bind=fd://{}",
        ISSUER=local_tenant.issuer,
        AUDIENCE=local_tenant.audience,
        LEAKED=leaked,
        GOOD=local_tenant.token(),
        SNAPSHOT=str(tmp_path / "keys.json"),
    ) as client:
        yield Workers(client)


def test_every_worker_goes_on_from_what_the_master_knew(
    workers: Workers, local_tenant: LocalTenant
) -> None:
    for path in ("/guarded", "/in-thread"):
        assert workers.agree(path, local_tenant.token(sub="auth0|bob")) == "auth0|bob"
        assert workers.agree(path, local_tenant.token(key="previous")) == "401"
        assert workers.agree(path, local_tenant.forged_token()) == "401"
    local_tenant.rotate()
    local_tenant.rotate()
    for path in ("/guarded", "/in-thread"):
        assert workers.agree(path, local_tenant.token(sub="auth0|carol")) == "auth0|carol"


def test_every_worker_refreshes_in_the_background(workers: Workers) -> None:
    now = time.time()
    workers.ask("/in-thread")  # nothing else starts the verifier that has no lifespan

    def both_confirmed() -> bool:
        confirmations = workers.ask("/confirmed").values()
        return all(date > now for dates in confirmations for date in json.loads(dates))

    wait_until(both_confirmed)
