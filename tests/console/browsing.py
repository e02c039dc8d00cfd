"""A console on a real fleet in a real browser: what its tests share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from benchmarks.environments import node_modules
from jwks_guard import Register, SyncTokenVerifier
from jwks_guard.admin import ClientCredentials, KeyRotation, SigningKeysClient
from jwks_guard.console.gathering import Gatherer
from jwks_guard.fleet import RedisFleet
from jwks_guard.testing import LocalTenant
from tests.console.support import Pages, Server
from tests.process.programs import require_program
from tests.redis_server import RedisServer


@dataclass
class Stage:
    """A tenant, two processes' worth of verifiers on a fleet, and the console of both.

    The console can be stopped and served again at the same address.
    """

    tenant: LocalTenant
    verifiers: tuple[SyncTokenVerifier, ...]
    redis: RedisServer
    port: int = 0
    pages: Pages = field(init=False)
    server: Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self) -> None:
        """Serve a console that has just begun, on the port of the one before."""
        fleet = RedisFleet(self.redis.url, issuer=self.tenant.issuer)
        auth = ClientCredentials(self.tenant.client_id, self.tenant.client_secret)
        keys = SigningKeysClient(self.tenant.issuer, auth=auth)
        rotation = KeyRotation(keys, fleet, token_lifetime=timedelta(hours=1))
        self.pages = Pages(Gatherer(rotation, fleet), closing=[fleet.aclose, keys.aclose])
        self.server = Server(self.pages.app, self.port)
        self.port = self.server.port

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop()
            self.server = None

    def call(self) -> None:
        """Have each verifier accept a token."""
        for verifier in self.verifiers:
            verifier.verify(self.tenant.token())


@contextmanager
def staged(redis: RedisServer) -> Iterator[Stage]:
    with ExitStack() as stack:
        tenant = stack.enter_context(LocalTenant(algorithm="ES256"))
        verifiers = tuple(
            stack.enter_context(
                SyncTokenVerifier(
                    tenant.issuer,
                    tenant.audience,
                    fleet=RedisFleet(redis.url),
                    register=Register(),
                    refresh_interval=1.0,
                )
            )
            for _ in range(2)
        )
        stage = Stage(tenant, verifiers, redis)
        stack.callback(stage.stop)
        stage.serve()
        yield stage


def axe_source() -> str:
    """The script of axe-core, which finds what is not accessible."""
    require_program("node", "apt-get install -y nodejs")
    require_program("npm", "apt-get install -y npm")
    home = node_modules(Path(__file__).with_name("package.json"), "console-axe")
    assert home is not None
    return (home / "node_modules" / "axe-core" / "axe.min.js").read_text()


def violations(page: Page, axe: str) -> list[str]:
    """What axe-core finds wrong on the page, with the elements."""
    page.evaluate(axe)  # as the debugger does, past the page's own policy
    found: dict[str, Any] = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{each['id']}: {each['help']}: {[node['html'][:120] for node in each['nodes']]}"
        for each in found["violations"]
    ]
