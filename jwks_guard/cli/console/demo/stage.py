"""What the demo of the console shows: a local tenant, two guarded processes, and their clients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe
from socket import socket
from tempfile import TemporaryDirectory

from jwks_guard.base.settings_reader import PREFIX
from jwks_guard.cli.console.demo.traffic import Client, calling, clients
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.server import listen

_INSTANCES = 2
_REFRESH_SECONDS = 5
_ENDING_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class DemoStage:
    """A local tenant, the addresses of guarded APIs, and a folder with the settings of all of it.

    `token_lifetime` and `quiet_seconds` are in seconds.
    """

    tenant: LocalTenant
    apis: tuple[str, ...]
    folder: Path
    token_lifetime: float
    quiet_seconds: float
    operator_secret: str = field(default_factory=lambda: token_urlsafe(24), repr=False)
    viewer_secret: str = field(default_factory=lambda: token_urlsafe(24), repr=False)

    @property
    def config(self) -> Path:
        """The file with the settings, for the console and for the commands."""
        return self.folder / "demo.toml"

    @property
    def fleet_secret_file(self) -> Path:
        """The file with the secret that the instances share."""
        return self.folder / "fleet-secret"

    def traffic(self) -> AbstractAsyncContextManager[None]:
        """Rotate, then have clients call the APIs: half of them with tokens of the older key."""
        calls = clients()
        for client in calls[::2]:
            client.take(self._token(client), self.token_lifetime)
        self.tenant.rotate()
        return calling(calls, self.apis, self._token, self.token_lifetime)

    def write(self) -> None:
        """Write the settings."""
        settings: Mapping[str, object] = {
            "domain": self.tenant.issuer,
            "client_id": self.tenant.client_id,
            "client_secret": self.tenant.client_secret,
            "issuer": self.tenant.issuer,
            "audience": self.tenant.audience,
            "fleet": " ".join(api.replace("/things", "/ops") for api in self.apis),
            "fleet_secret_file": self.fleet_secret_file.name,
            "token_lifetime_seconds": self.token_lifetime,
            "quiet_period_seconds": self.quiet_seconds,
            "expected_instances": len(self.apis),
            "journal": "journal.jsonl",
            "console_operator_secret": self.operator_secret,
            "console_viewer_secret": self.viewer_secret,
        }
        # Strings and numbers are written alike in JSON and in TOML.
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
        for path, text in (
            (self.config, "".join(lines)),
            (self.fleet_secret_file, token_urlsafe(24)),
        ):
            path.touch(mode=0o600)
            path.write_text(text)

    def environment(self) -> dict[str, str]:
        """The environment of an instance."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return kept | {
            f"{PREFIX}CONFIG": str(self.config),
            f"{PREFIX}FLEET_SECRET_FILE": str(self.fleet_secret_file),
            f"{PREFIX}REFRESH_INTERVAL": str(_REFRESH_SECONDS),
        }

    def _token(self, client: Client) -> str:
        claims = {"azp": client.client_id, "org_id": client.organization}
        return self.tenant.token(sub=f"auth0|{client.client_id}", claims=claims)


@contextmanager
def staged(token_lifetime: float = 120.0, quiet_seconds: float = 20.0) -> Iterator[DemoStage]:
    """The tenant and the instances run while the block does; nothing of them is left."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="jwks-guard-demo-"))
        tenant = stack.enter_context(LocalTenant(token_lifetime=token_lifetime))
        listeners = [stack.enter_context(listen("127.0.0.1", 0)) for _ in range(_INSTANCES)]
        apis = [f"http://127.0.0.1:{each.getsockname()[1]}/things" for each in listeners]
        stage = DemoStage(tenant, tuple(apis), Path(folder), token_lifetime, quiet_seconds)
        stage.write()
        for listener in listeners:
            stack.enter_context(_instance(stage, listener))
        yield stage


@contextmanager
def _instance(stage: DemoStage, listener: socket) -> Iterator[None]:
    ending, kept_open = os.pipe()  # the process ends when nobody holds the other end any more
    descriptor = listener.fileno()
    command = [sys.executable, "-m", "jwks_guard.cli.console.demo.instance", str(descriptor)]
    with subprocess.Popen(  # noqa: S603 - our own program
        command,
        stdin=ending,
        pass_fds=[descriptor],
        env=stage.environment(),
        start_new_session=True,  # Ctrl-C is for the command, which ends it
    ) as process:
        listener.close()
        os.close(ending)
        try:
            yield
        finally:
            os.close(kept_open)
            try:
                process.wait(_ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
