"""A tenant and a fleet of two verifiers, whose pages are served: what tests in a browser share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from jwks_guard import Register, SyncTokenVerifier
from jwks_guard.admin import ClientCredentials, KeyRotation, SigningKeysClient
from jwks_guard.console import OperatorSecrets, console
from jwks_guard.console.gathering import Gatherer
from jwks_guard.fleet import RedisFleet
from jwks_guard.testing import LocalTenant
from tests.console.support import Pages, Server
from tests.redis_server import RedisServer


@dataclass
class Stage:
    """A tenant, two verifiers that are instances of a fleet, and the pages about them.

    They can be stopped and served again at the same address.
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

    def serve(self, login: OperatorSecrets | None = None) -> None:
        """Serve pages that have just begun, on the port of those before.

        With a `login` it is the whole console, else the pages alone for somebody logged in.
        """
        fleet = RedisFleet(self.redis.url, issuer=self.tenant.issuer)
        auth = ClientCredentials(self.tenant.client_id, self.tenant.client_secret)
        keys = SigningKeysClient(self.tenant.issuer, auth=auth)
        rotation = KeyRotation(keys, fleet, token_lifetime=timedelta(hours=1))
        self.pages = Pages(Gatherer(rotation, fleet))
        app = self.pages.app if login is None else console(rotation, fleet, login=login)
        self.server = Server(app, self.port, closing=[fleet.aclose, keys.aclose])
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
