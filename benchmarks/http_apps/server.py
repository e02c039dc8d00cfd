"""An app on a port, with a tenant of its own and tokens for the load."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.http_apps.catalogue import ROOT, App, UnavailableError
from benchmarks.http_apps.cores import on_server_core
from benchmarks.http_apps.wrk import UnansweredError
from benchmarks.tenants import bad_tokens, free_port, under_unknown_kids
from jwks_guard.testing import LocalTenant

TOKENS = 1000
PATIENCE = 30.0  # seconds for a server to start
FAILURES = (UnansweredError, httpx.HTTPError, subprocess.CalledProcessError)
"""What a server that no longer answers raises in the one that measures it."""


@dataclass(frozen=True, slots=True)
class Served:
    """A running app, by its process id, that was seen to accept good tokens and refuse others."""

    app: App
    process: int
    tenant: LocalTenant
    url: str
    tokens: Path
    one_token: Path

    def ready(self) -> None:
        """Let it fetch the keys again if their time is over, before a load and not under it."""
        _status(self.url, self.one_token.read_text().strip())

    def cpu_seconds(self) -> float:
        """The processor time that the server took so far, or NaN where that can't be read."""
        try:
            fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(") ")[2].split()
        except FileNotFoundError:
            return math.nan
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def forge(self, count: int) -> Path:
        """A file of tokens by unknown keys, each with a kid that was never seen before."""
        forged = under_unknown_kids(self.tenant.forged_token(), count)
        return _written(self.tokens.with_suffix(".forged"), forged)


@contextmanager
def served(app: App, folder: Path) -> Iterator[Served]:
    """The app, running until the end of the block. Raises `UnavailableError`."""
    port, name = free_port(), f"{app.framework}-{app.name}".replace(" ", "-")
    url, log = f"http://127.0.0.1:{port}/", folder / f"{name}.log"
    with tenant_for(app) as tenant, running(app, tenant, port, log) as process:
        good = [tenant.token(sub=f"auth0|{number}") for number in range(TOKENS)]
        tokens = _written(folder / f"{name}.tokens", good)
        one_token = _written(folder / f"{name}.token", good[:1])
        if app.guarded:
            must_guard(url, tenant)
        yield Served(app, process, tenant, url, tokens, one_token)


def tenant_for(app: App) -> LocalTenant:
    """A tenant for one app alone, so that the fetches it sees are that app's."""
    if not app.https_issuer:
        return LocalTenant()
    port = free_port()
    return LocalTenant(port=port, issuer=f"https://127.0.0.1:{port}/")


@contextmanager
def running(app: App, tenant: LocalTenant, port: int, log: Path) -> Iterator[int]:
    """The id of the app's server process, which is kept on one core; once it listens."""
    try:
        command, variables = app.command(port), app.variables()
    except subprocess.CalledProcessError as error:
        raise UnavailableError(f"its environment can't be made: {error}") from error
    named = {"ISSUER": tenant.issuer, "AUDIENCE": tenant.audience, "JWKS_URI": tenant.jwks_uri}
    named["TOKEN"] = tenant.token()
    with log.open("wb") as output:
        process = subprocess.Popen(
            on_server_core(command),
            cwd=ROOT,
            env={**os.environ, **variables, **named, "PORT": str(port)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_listening(process, port, log)
        yield process.pid
    finally:
        _stop(process)


def must_guard(url: str, tenant: LocalTenant) -> None:
    """Raise `UnavailableError` unless a good token is accepted and all else is refused."""
    for what, token in bad_tokens(tenant).items():
        if (status := _status(url, token)) != 401:
            raise UnavailableError(f"a token {what} got {status}")
    if (status := _status(url, tenant.token())) != 200:
        raise UnavailableError(f"a good token got {status}")
    if _status(url, None) not in (400, 401, 403):
        raise UnavailableError("a request without a token passed")


def _status(url: str, token: str | None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    # TLS is never used here, and to prepare for it takes longer than the request.
    return httpx.get(url, headers=headers, timeout=10, verify=False).status_code


def _wait_until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    said = log.read_text(errors="replace").strip().splitlines() or ["it does not listen"]
    raise UnavailableError(f"its server did not start: {said[-1]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _written(path: Path, tokens: Sequence[str]) -> Path:
    path.write_text("\n".join(tokens) + "\n")
    return path
