"""`jwks-guard tenant token`, beside a tenant that runs."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import jwt
import pytest

from jwks_guard.testing import LocalTenant
from jwks_guard.testing.settings import ISSUE_PATH
from tests.cli.keys_running import PROGRAM
from tests.cli.keys_running import run as run_command


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    # A proxy that is set for the rest of the world is not asked about loopback.
    proxy = {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9"}
    environ = {**os.environ, **proxy, **environ}
    return run_command(environ, *arguments, command=(*PROGRAM, "tenant", "token"))


def claims_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert (done.returncode, done.stderr) == (0, "")
    claims: dict[str, Any] = jwt.decode(done.stdout.strip(), options={"verify_signature": False})
    return claims


def test_token_of_the_tenant_that_runs_is_printed(local_tenant: LocalTenant) -> None:
    claims = claims_of(run("--url", local_tenant.issuer))
    assert (claims["iss"], claims["sub"]) == (local_tenant.issuer, "auth0|alice")
    assert claims["aud"][0] == local_tenant.audience


def test_token_is_as_told(local_tenant: LocalTenant) -> None:
    told = ("--scope", "read:a write:a", "--sub", "auth0|bob", "--permission=p1", "--permission=p2")
    claims = claims_of(run("--url", local_tenant.issuer.rstrip("/"), *told, "--expired"))
    assert (claims["sub"], claims["scope"]) == ("auth0|bob", "read:a write:a")
    assert claims["permissions"] == ["p1", "p2"]
    assert claims["exp"] - claims["iat"] == 3600


def test_token_is_got_over_https_with_the_authority_in_ssl_cert_file(tmp_path: Path) -> None:
    with LocalTenant(tls=True, algorithm="ES256") as tenant:
        path = tmp_path / "ca.pem"
        path.write_text(tenant.ca_certificate)
        assert claims_of(run("--url", tenant.issuer, SSL_CERT_FILE=str(path)))
        refused = run("--url", tenant.issuer)
        assert (refused.returncode, refused.stdout) == (3, "")
        assert "SSL_CERT_FILE" in refused.stderr
        assert run("--url", tenant.issuer.replace("https", "http")).returncode == 3


def test_audience_that_is_not_there_is_a_usage_error(local_tenant: LocalTenant) -> None:
    done = run("--url", local_tenant.issuer, "--audience", "https://unknown.test")
    assert (done.returncode, done.stdout) == (2, "")
    assert local_tenant.audience in done.stderr


def test_no_tenant_is_status_3_with_how_to_start_one() -> None:
    with socket.socket() as closed:  # bound and not listening: nothing answers there
        closed.bind(("127.0.0.1", 0))
        done = run("--url", f"http://127.0.0.1:{closed.getsockname()[1]}")
    assert (done.returncode, done.stdout) == (3, "")
    assert "jwks-guard tenant" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"{}"])
def test_another_server_is_status_3(local_tenant: LocalTenant, content: bytes) -> None:
    local_tenant.faults.garbage(content, path=ISSUE_PATH)
    done = run("--url", local_tenant.issuer)
    assert (done.returncode, done.stdout) == (3, "")
    assert "not the form of a local tenant" in done.stderr


@pytest.mark.parametrize("url", ["nonsense", "http://[", "ftp://127.0.0.1"])
def test_address_that_is_none_has_no_traceback(url: str) -> None:
    done = run("--url", url)
    assert done.returncode in (2, 3)
    assert "Traceback" not in done.stderr
