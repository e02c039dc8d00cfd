from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import jwks_guard
from jwks_guard.testing import LocalTenant
from tests.cli.fleet_running import ShownFleet, state, used
from tests.cli.instances_running import SECRET, over_http, over_redis
from tests.cli.keys_running import PROGRAM, environment, run
from tests.redis_server import RedisServer

STATUS = (*PROGRAM, "status")
DISTRUST = (*PROGRAM, "distrust")
ESCAPES = "\x1b\x9b\u202e\x07"


@pytest.fixture
def tenant() -> Iterator[LocalTenant]:
    with LocalTenant(in_process=True, algorithm="ES256") as tenant:
        tenant.rotate()
        yield tenant


@pytest.fixture
def environ(tenant: LocalTenant, redis: RedisServer, tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path, JWKS_GUARD_FLEET=redis.url, JWKS_GUARD_ISSUER=tenant.issuer)


def test_status_shows_who_trusts_and_refuses_each_key_who_decided_and_why(
    tenant: LocalTenant, redis: RedisServer, environ: dict[str, str]
) -> None:
    leaked, current = tenant.key("previous").kid, tenant.key().kid
    with over_redis(tenant, redis) as one, over_redis(tenant, redis):
        one.distrust(leaked, reason="found in a public repository")
        run(environ, leaked, "--reason", "again", "--yes", command=DISTRUST)  # both have heard
        done = run(environ, command=STATUS)
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert max(map(len, lines)) <= 80
        assert lines[0].startswith(tenant.issuer)
        assert f"version {jwks_guard.__version__}" in done.stdout
        of_current = lines[lines.index(current) :]
        assert of_current[1] == "  trusted by every instance that reports"
        of_leaked = lines[lines.index(leaked) :]
        assert of_leaked[1] == "  refused by every instance that reports"
        assert re.fullmatch(r"  refused since 20.* UTC, \d+ s ago", of_leaked[2])
        assert "found in a public repository" in " ".join(of_leaked)


def test_json_has_every_state_and_decision(
    tenant: LocalTenant, redis: RedisServer, environ: dict[str, str]
) -> None:
    kid = tenant.key("previous").kid
    with over_redis(tenant, redis) as verifier:
        verifier.distrust(kid, reason="leaked")
        document = json.loads(run(environ, "--json", command=STATUS).stdout)
    assert document["issuer"] == tenant.issuer
    (shown,) = document["instances"]
    assert (shown["live"], shown["version"]) == (True, jwks_guard.__version__)
    assert kid in shown["refused"]
    (decision,) = document["distrusted"]
    assert (decision["kid"], decision["reason"]) == (kid, "leaked")


def test_status_asks_instances_over_http(tenant: LocalTenant, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    with over_http(tenant) as one, over_http(tenant) as other:
        environ = environment(
            tmp_path,
            JWKS_GUARD_FLEET=f"{one.url} {other.url}",
            JWKS_GUARD_FLEET_SECRET_FILE=str(secret),
            JWKS_GUARD_ISSUER=tenant.issuer,
        )
        one.verifier.distrust(tenant.key("previous").kid, reason="leaked")
        other.stop()
        done = run(environ, command=STATUS)
        assert (done.returncode, done.stderr) == (0, "")
        assert "1 silent instance: " in done.stdout
        assert "leaked" in done.stdout
        one.stop()
        assert run(environ, command=STATUS).returncode == 3


def test_dead_instances_take_one_line(
    fleet: ShownFleet, tenant: LocalTenant, environ: dict[str, str]
) -> None:
    gone = time.time() - 7_260
    fleet.show(state(tenant.issuer, "new"))
    for number in range(5):
        instance = f"{number}" * 32
        fleet.show(state(tenant.issuer, "new", instance=instance, reported_at=gone))
    done = run({**environ, "COLUMNS": "120"}, command=STATUS)
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    assert "5 silent instances: web-1:17 (00000000) (2 h ago), " in text
    assert ", 2 more new" in text


def test_fleet_of_which_nobody_reports_ends_with_status_1(environ: dict[str, str]) -> None:
    done = run(environ, command=STATUS)
    assert (done.returncode, done.stderr) == (1, "")
    assert "No instance reports." in done.stdout


def test_redis_that_can_not_be_reached_ends_with_status_3(
    redis: RedisServer, environ: dict[str, str]
) -> None:
    redis.kill()
    done = run(environ, command=STATUS)
    assert (done.returncode, done.stdout) == (3, "")


def test_what_the_fleet_says_steers_no_terminal(
    fleet: ShownFleet, tenant: LocalTenant, environ: dict[str, str]
) -> None:
    hostile, now = f"kid{ESCAPES}[red]", time.time()
    fleet.show(
        state(tenant.issuer, hostile, usage={hostile: used(1.0)}),
        state(tenant.issuer, instance="b" * 32, refused={hostile: now}, last_error="[red]"),
    )
    for arguments in ((), ("--json",)):
        done = run(environ, *arguments, command=STATUS)
        assert (done.returncode, done.stderr) == (0, "")
        assert not set(done.stdout) & set(ESCAPES)
    assert "kid\\x1b\\x9b\\u202e\\x07[red]" in run(environ, command=STATUS).stdout


def test_version_is_printed(environ: dict[str, str]) -> None:
    done = run(environ, "--version", command=PROGRAM)
    assert (done.returncode, done.stdout) == (0, f"jwks-guard {jwks_guard.__version__}\n")
