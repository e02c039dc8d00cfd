"""URLs of a fleet's Redis: what they mean, and what is refused when a fleet is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from jwks_guard import ConfigurationError, EnvironmentVariableError
from jwks_guard.fleet import RedisFleet
from jwks_guard.fleet.redis_url import parsed


@pytest.mark.parametrize(
    ("url", "nodes", "service"),
    [
        ("redis://host", [("host", 6379)], None),
        ("redis://host:7000/2", [("host", 7000)], None),
        ("rediss://u:p@host:7000", [("host", 7000)], None),
        ("redis://a,b:7000/0", [("a", 6379), ("b", 7000)], None),
        ("redis://[::1]:7000,[::2]", [("::1", 7000), ("::2", 6379)], None),
        ("unix:///run/redis.sock", [None], None),
        ("redis+sentinel://a,b:7000/mymaster", [("a", 26379), ("b", 7000)], "mymaster"),
        ("redis+sentinel://a/my%2Fmaster/3", None, None),
        ("rediss+sentinel://u:p@a/mymaster/3", [("a", 26379)], "mymaster"),
    ],
)
def test_a_url_names_nodes_or_sentinels(
    url: str, nodes: list[tuple[str, int] | None] | None, service: str | None
) -> None:
    if nodes is None:
        with pytest.raises(ConfigurationError):
            parsed(url)
        return
    read = parsed(url)
    assert (list(read.nodes), read.service) == (nodes, service)


def test_user_password_and_database_go_to_every_node_and_sentinels_have_their_own() -> None:
    read = parsed(
        "rediss+sentinel://us%40er:p%2Fw@a,b/mymaster/3?client_name=api&sentinel_password=s%2F3"
    )
    options = read.client(("primary", 6379)).connection_pool.connection_kwargs
    said = {name: options[name] for name in ("host", "username", "password", "db", "client_name")}
    assert said == {
        "host": "primary",
        "username": "us@er",
        "password": "p/w",
        "db": 3,
        "client_name": "api",
    }
    sentinel = read.sentinel()
    assert sentinel is not None
    assert len(sentinel.sentinels) == 2
    options = sentinel.sentinels[0].connection_pool.connection_kwargs
    assert (options["password"], options.get("username")) == ("s/3", None)
    assert "p/w" not in repr(read)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://", "must be a Redis URL"),
        ("redis://a,", "must be a Redis URL"),
        ("redis://a:0x1", "must be a Redis URL"),
        ("redis://a/name", "must be a Redis URL"),
        ("redis+cluster://a", "must be a Redis URL"),
        ("redis://:s3/cret@a", "must be a Redis URL"),
        ("redis+sentinel://a", "which service"),
        ("redis+sentinel://a/", "which service"),
        ("redis+sentinel://a/mymaster/x", "must be a Redis URL"),
        ("redis+sentinel:///mymaster", "must be a Redis URL"),
        ("redis+sentinel://a/m?socket_timeout=9", "sentinel_password"),
        ("redis://a?sentinel_password=s3cret", "not allowed"),
        ("rediss://a?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs"),
        ("rediss://a?ssl_ca_path=/nowhere", "ssl_ca_path"),
        ("rediss://a?ssl_certfile=/nowhere/cert.pem", "ssl_certfile"),
        ("rediss+sentinel://a/m?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs"),
    ],
)
def test_what_can_not_be_used_is_refused_when_the_fleet_is_made(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as refusal:
        RedisFleet(url)
    assert "cret" not in str(refusal.value)


def test_a_file_that_holds_no_certificate_is_refused_when_the_fleet_is_made(
    tmp_path: Path,
) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nothing")
    with pytest.raises(ConfigurationError, match=r"holds none in PEM\. Write"):
        RedisFleet(f"rediss://a?ssl_ca_certs={file}")


def test_certificates_that_the_environment_names_are_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with pytest.raises(EnvironmentVariableError, match=r"SSL_CERT_FILE.*/nowhere/ca\.pem"):
        RedisFleet("rediss://a")
    RedisFleet("redis://a")
