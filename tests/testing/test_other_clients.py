"""Other people's clients, which insist on https, against a tenant with TLS.

What each of them says to a revoked key is shown by `pytest -m outside -rP`, and not judged.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.environments import node_modules, python_for
from jwks_guard.testing import LocalTenant
from tests.process.programs import require_program

CLIENTS = Path(__file__).parent / "clients"
NODE = ["express-oauth2-jwt-bearer", "jose", "jwks-rsa"]

pytestmark = pytest.mark.outside


class Client:
    """One of them, in a process of its own."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self._process = process

    def verify(self, token: str) -> dict[str, str]:
        """What it says to a token: whose it is, or why it is refused."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"client": self.name, "token": token}) + "\n")
        self._process.stdin.flush()
        said: dict[str, str] = json.loads(self._process.stdout.readline())
        return said


@pytest.fixture(scope="module")
def tenant() -> Iterator[LocalTenant]:
    with LocalTenant(tls=True) as served:
        yield served


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of the Node clients, with their packages beside it."""
    require_program("node", "apt-get install -y nodejs")
    require_program("npm", "apt-get install -y npm")
    home = node_modules(CLIENTS / "package.json", "node-clients")
    assert home is not None
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(CLIENTS / "clients.mjs", folder)
    (folder / "node_modules").symlink_to(home / "node_modules")
    return ["node", str(folder / "clients.mjs")]


@pytest.fixture(scope="module")
def python() -> list[str]:
    """The command of auth0-api-python, in an environment of its own."""
    return [str(python_for("auth0-api-python")), str(CLIENTS / "auth0_api.py")]


@pytest.fixture(params=[*NODE, "auth0-api-python"])
def client(request: pytest.FixtureRequest, tenant: LocalTenant, tmp_path: Path) -> Iterator[Client]:
    kind = "node" if request.param in NODE else "python"
    command: list[str] = request.getfixturevalue(kind)
    authority = tmp_path / "ca.pem"
    authority.write_text(tenant.ca_certificate)
    environ = {
        **os.environ,
        "ISSUER": tenant.issuer,
        "AUDIENCE": tenant.audience,
        "SSL_CERT_FILE": str(authority),
        "NODE_EXTRA_CA_CERTS": str(authority),
    }
    with subprocess.Popen(
        command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Client(request.param, process)
        finally:
            process.kill()


def test_good_token_is_accepted_and_bad_ones_are_refused(
    client: Client, tenant: LocalTenant
) -> None:
    assert client.verify(tenant.token()) == {"accepted": "auth0|alice"}
    for bad in (
        tenant.token(lifetime=-3600),
        tenant.token(audience=["https://other.test"]),
        tenant.token(claims={"iss": "https://other.test/"}),
        tenant.forged_token(),
        tenant.forged_token(kid="unknown"),
    ):
        said = client.verify(bad)
        assert list(said) == ["refused"]
    assert client.verify(tenant.token()) == {"accepted": "auth0|alice"}


def test_key_that_was_revoked_is_answered_somehow(client: Client, tenant: LocalTenant) -> None:
    old = tenant.token()
    assert client.verify(old) == {"accepted": "auth0|alice"}
    kid = tenant.key().kid
    tenant.rotate()
    tenant.revoke(kid)
    for name, token in {"the revoked key": old, "the new key": tenant.token()}.items():
        said = client.verify(token)
        sys.stdout.write(f"{client.name}, a token by {name}: {said}\n")
        assert list(said) in (["accepted"], ["refused"])
