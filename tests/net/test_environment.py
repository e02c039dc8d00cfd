"""Variables of the environment that can't be used are named, before anything is sent."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from jwks_guard import ConfigurationError, EnvironmentVariableError, TokenVerifier
from jwks_guard.admin import SigningKeysClient, StaticToken
from jwks_guard.fleet import HTTPFleet
from jwks_guard.net import clients
from jwks_guard.net.clients import headers_of, new_client
from jwks_guard.net.environment import require_environment

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
NO_SOCKS = importlib.util.find_spec("socksio") is None


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the variables is set, and nothing is remembered of an earlier environment."""
    for name in (*PROXIES, "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    clients._tls_context.cache_clear()


UNUSABLE = [
    ("NO_PROXY", "[::1]", "'[::1]'"),
    ("NO_PROXY", "localhost,[::1]:80,10.0.0.0/8", "'[::1]:80'"),
    ("no_proxy", "fe80::/10", "'fe80::/10'"),
    ("NO_PROXY", "host:port", "'host:port'"),
    ("ALL_PROXY", "socks4://127.0.0.1:9", "socks5://"),
    ("ALL_PROXY", "ftp://127.0.0.1", "http://"),
    ("HTTPS_PROXY", "http://[::1", "no URL"),
    ("https_proxy", "http://proxy:port", "no URL"),
    ("SSL_CERT_FILE", "/nowhere/ca.pem", "/nowhere/ca.pem"),
    ("SSL_CERT_DIR", "/nowhere", "/nowhere"),
    ("SSLKEYLOGFILE", "/nowhere/keys.log", "/nowhere/keys.log"),
]
if NO_SOCKS:
    UNUSABLE += [(name, "socks5://127.0.0.1:9", "socksio") for name in PROXIES[1:3]]
    UNUSABLE.append(("all_proxy", "socks5h://user:s3cret@127.0.0.1:9", "httpx[socks]"))


@pytest.mark.parametrize(("name", "value", "told"), UNUSABLE)
def test_variable_that_can_not_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(EnvironmentVariableError) as refusal:
        new_client()
    assert f"variable {name} can't be used" in str(refusal.value)
    assert told in str(refusal.value)
    assert "s3cret" not in str(refusal.value)


def signing_keys_client() -> object:
    return SigningKeysClient("tenant.test", auth=StaticToken("t"))


def verifier() -> object:
    return TokenVerifier("https://tenant.test/", "https://api.test")


def http_fleet() -> object:
    return HTTPFleet(["https://10.0.0.1/ops"], secret="correct-horse-battery")


@pytest.mark.parametrize("make", [signing_keys_client, verifier, http_fleet])
def test_each_side_says_so_when_it_is_made(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], object]
) -> None:
    monkeypatch.setenv("NO_PROXY", "[::1]")
    with pytest.raises(ConfigurationError, match="NO_PROXY"):
        make()


async def test_client_of_the_callers_own_is_used_whatever_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_PROXY", "[::1]")
    clients._default_headers.cache_clear()
    given = {"X-Key": "value"}
    async with httpx.AsyncClient(trust_env=False, verify=False, headers=given) as client:
        assert headers_of(client) == {"x-key": "value"}
        TokenVerifier("https://tenant.test/", "https://api.test", http_client=client)


def test_file_without_certificates_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nothing")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(EnvironmentVariableError, match=r"SSL_CERT_FILE.*can't be loaded"):
        new_client()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NO_PROXY", "::1,10.0.0.0/8,*.corp.test,.corp.test,127.0.0.1,localhost,http://host:80"),
        ("NO_PROXY", "[::1],*"),
        ("NO_PROXY", ""),
        ("HTTPS_PROXY", "http://user:password@proxy:3128"),
        ("HTTPS_PROXY", "proxy:3128"),
        ("ALL_PROXY", "https://proxy"),
        ("TRAVIS_APT_PROXY", "socks4://proxy"),
    ],
)
def test_variable_that_httpx_takes_is_taken(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    require_environment()
    asyncio.run(new_client().aclose())


def test_no_proxy_is_used_where_all_hosts_are_excepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("ALL_PROXY", "socks4://127.0.0.1:9")
    asyncio.run(new_client().aclose())
