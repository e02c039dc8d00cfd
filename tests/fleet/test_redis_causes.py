"""Each cause for which Redis can't be used is named, with what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError

from jwks_guard.fleet.redis_causes import cause_of
from jwks_guard.testing import LocalTenant
from tests.bounds import shorten_redis
from tests.fleet.instances import fleet_of, instance
from tests.redis_server import RedisServer, free_port, redis_server

PASSWORD = "correct-horse-battery"


@contextmanager
def configured(redis: RedisServer, **settings: str) -> Iterator[None]:
    with redis.client() as client:
        before = {name: client.config_get(name)[name] for name in settings}
        for name, value in settings.items():
            client.config_set(name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                client.config_set(name, value)


def without_password(redis: RedisServer) -> str:
    return redis.url


def wrong_password(redis: RedisServer) -> str:
    return f"redis://:{PASSWORD}-no@127.0.0.1:{redis.port}"


def unknown_user(redis: RedisServer) -> str:
    return f"redis://nobody:{PASSWORD}@127.0.0.1:{redis.port}"


def no_tls(redis: RedisServer) -> str:
    return f"rediss://127.0.0.1:{redis.port}"


def no_such_database(redis: RedisServer) -> str:
    return f"{redis.url}/999"


def nobody_there(redis: RedisServer) -> str:
    return f"redis://127.0.0.1:{free_port()}"


def no_sentinel(redis: RedisServer) -> str:
    return f"redis+sentinel://127.0.0.1:{free_port()}/mymaster"


PROTECTED = {"requirepass": PASSWORD}
FULL = {"maxmemory": "1"}
OPEN: dict[str, str] = {}
CAUSES: list[tuple[dict[str, str], Callable[[RedisServer], str], str, str]] = [
    (PROTECTED, without_password, "refuses the login", "user name and password"),
    (PROTECTED, wrong_password, "refuses the login", "user name and password"),
    (PROTECTED, unknown_user, "refuses the login", "user name and password"),
    (OPEN, no_tls, "can't be reached", "rediss:// is with TLS"),
    (OPEN, no_such_database, "no database of that number", "another"),
    (OPEN, nobody_there, "can't be reached", "network"),
    (OPEN, no_sentinel, "not known to any Sentinel", "SENTINEL MASTERS"),
    (FULL, without_password, "is full", "maxmemory"),
]


@pytest.mark.parametrize(("settings", "url_of", "cause", "remedy"), CAUSES)
async def test_what_is_wrong_is_said_with_what_to_do(
    tenant: LocalTenant,
    redis: RedisServer,
    settings: dict[str, str],
    url_of: Callable[[RedisServer], str],
    cause: str,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shorten_redis(monkeypatch, 2.0)  # a server without TLS leaves a handshake unanswered
    with configured(redis, **settings):
        async with instance(tenant, fleet_of(redis, url=url_of(redis))) as one:
            told = str(one.health().last_error)
    assert cause in told
    assert remedy in told
    assert PASSWORD not in told
    assert ("can't be reached" in told) == (url_of in (nobody_there, no_tls))


async def test_the_password_is_not_shown_although_the_server_quotes_it(
    tenant: LocalTenant, caplog: pytest.LogCaptureFixture
) -> None:
    """As one older than 6.0 does, where the URL has protocol=3: HELLO carries the password."""
    with redis_server(settings="--rename-command HELLO hidden") as old:
        async with instance(tenant, fleet_of(old)) as one:
            assert one.health().last_error is None
        url = f"redis://me:{PASSWORD}@127.0.0.1:{old.port}?protocol=3"
        async with instance(tenant, fleet_of(old, url=url)) as one:
            told = str(one.health().last_error)
    assert "does not know HELLO" in told
    assert "leave protocol= out" in told
    assert PASSWORD not in told + caplog.text


def _error(name: str, *words: Any) -> BaseException:
    from redis import exceptions

    error: BaseException = getattr(exceptions, name)(*words)
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (_error("MovedError", "1 10.0.0.1:6379"), "does not agree on which node"),
        (_error("AskError", "1 10.0.0.1:6379"), "moving the fleet's keys"),
        (_error("TryAgainError", "Multiple keys"), "moving the fleet's keys"),
        (_error("ClusterDownError", "The cluster is down"), "is a cluster that is down"),
        (_error("BusyLoadingError", "loading"), "is loading its data"),
        (_error("ReadOnlyError", "You can't write"), "is a replica"),
        (_error("NoPermissionError", "no permissions"), "forbids its user"),
        (_error("AuthenticationWrongNumberOfArgsError", "x"), "knows no user names"),
        (_error("ResponseError", "SELECT is not allowed in cluster mode"), "database 0 alone"),
        (_error("AuthenticationError", "Client sent AUTH, but no password is set"), "has no pass"),
        (_error("ConnectionError", "[SSL] record layer failure"), "does not speak TLS"),
        (_error("ResponseError", "unknown command 'HELLO', with args beginning"), "HELLO"),
        (_error("ResponseError", "MISCONF"), "can't be used"),
        (_error("ResponseError", "unknown command 'SENTINEL', with args"), "is no Sentinel"),
        (TimeoutError(), "network (TimeoutError)"),
        (ConnectionResetError("reset"), "can't be reached"),
        (ValueError("anything"), "can't be used"),
    ],
)
def test_each_kind_of_error_has_its_cause(error: BaseException, cause: str) -> None:
    assert cause in cause_of(error)


def test_sentinel_in_a_list_of_errors_is_named_by_its_address_alone() -> None:
    shown = repr(Redis(host="10.0.0.1", port=26379, password="secret"))
    error = MasterNotFoundError(f"No master found for 'm' : {shown} - x, {shown} - y")
    assert "(No master found for 'm' : 10.0.0.1:26379: x, 10.0.0.1:26379: y)" in cause_of(error)
