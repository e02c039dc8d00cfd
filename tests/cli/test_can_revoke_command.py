from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jwks_guard.readiness.state import InstanceState
from jwks_guard.testing import LocalTenant
from tests.cli.fleet_running import ShownFleet, called, instance, state, used
from tests.cli.keys_running import (
    PROGRAM,
    environment,
    of_tenant,
    run,
    run_process,
    started,
    terminal,
)
from tests.process.programs import wait_until
from tests.redis_server import RedisServer
from tests.support import PATIENCE

COMMAND = (*PROGRAM, "can-revoke")
HURRY = """
from jwks_guard.cli import main
from jwks_guard.cli.fleet import readiness_wait
readiness_wait.ASK_SECONDS = 0.5
main()
"""
HURRIED = (sys.executable, "-c", HURRY, "can-revoke")
LEFT = r"waiting for ([0-9a-z ]+) more"
LIFETIME = 0.1  # s
ESCAPES = "\x1b\x9b\u202e\x07"


@pytest.fixture
def tenant() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as tenant:
        yield tenant


@pytest.fixture
def environ(tenant: LocalTenant, redis: RedisServer, tmp_path: Path) -> dict[str, str]:
    return environment(
        tmp_path,
        **of_tenant(tenant),
        JWKS_GUARD_FLEET=redis.url,
        JWKS_GUARD_TOKEN_LIFETIME_SECONDS=str(LIFETIME),
        JWKS_GUARD_QUIET_PERIOD_SECONDS="1",
    )


def rotated(tenant: LocalTenant) -> str:
    """The kid of a key of which every token has expired."""
    kid = tenant.key().kid
    tenant.rotate()
    ended = tenant.key(kid).current_until or 0.0
    wait_until(lambda: time.time() > ended + LIFETIME)
    return kid


def healthy(tenant: LocalTenant, **members: object) -> InstanceState:
    kids = [tenant.key(which).kid for which in ("next", "current", "previous")]
    return state(tenant.issuer, *kids, **members)


def words(text: str) -> str:
    return " ".join(re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text).split())


def test_yes_ends_with_status_0_and_names_every_instance(
    tenant: LocalTenant, fleet: ShownFleet, environ: dict[str, str]
) -> None:
    kid = rotated(tenant)
    fleet.show(healthy(tenant), healthy(tenant, instance="f" * 32, host="web-2:18"))
    two = {**environ, "JWKS_GUARD_EXPECTED_INSTANCES": "2", "COLUMNS": "120"}
    done = run_process(two, kid, command=COMMAND)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[:3]] == [
        "instance",
        "web-1:17 (a1b2c3d4)",
        "web-2:18 (ffffffff)",
    ]
    assert lines[-1] == f"yes: {kid} can be revoked now: that refuses no valid token."


def test_no_ends_with_status_1_and_says_what_blocks(
    tenant: LocalTenant, fleet: ShownFleet, environ: dict[str, str]
) -> None:
    kid = rotated(tenant)
    fleet.show(healthy(tenant, usage={kid: used(0.0, 132)}))
    quiet = {**environ, "JWKS_GUARD_QUIET_PERIOD_SECONDS": "600", "COLUMNS": "120"}
    done = run(quiet, kid, command=COMMAND)
    assert (done.returncode, done.stderr) == (1, "")
    assert re.search(r"^web-1:17 .* 132 +\d+ (s|min) ago", done.stdout, re.MULTILINE)
    told = words(done.stdout)
    assert f"accepted 132 tokens of {kid} in the last 10 min" in told
    assert f"Tokens of {kid}, also those never used here, may be valid until 2" in told
    assert "Its last token expires by " in told
    assert done.stdout.splitlines()[-1].startswith(f"no: {kid} can't be revoked yet")


def test_json_is_the_whole_verdict(
    tenant: LocalTenant, fleet: ShownFleet, environ: dict[str, str]
) -> None:
    tenant.rotate()
    fleet.show(healthy(tenant))
    current = tenant.key().kid
    done = run(environ, current, "--json", command=COMMAND)
    assert (done.returncode, done.stderr) == (1, "")
    document = json.loads(done.stdout)
    assert (document["kid"], document["verdict"]) == (current, "no")
    assert document["blockers"][0]["code"] == "key_is_current"
    assert document["instances"][0]["host"] == "web-1:17"


def test_fleet_that_does_not_show_enough_instances_is_unknown(
    tenant: LocalTenant, fleet: ShownFleet, environ: dict[str, str]
) -> None:
    kid = rotated(tenant)
    fleet.show(healthy(tenant))
    few = run({**environ, "JWKS_GUARD_EXPECTED_INSTANCES": "3"}, kid, command=COMMAND)
    other = run({**environ, "JWKS_GUARD_FLEET_PREFIX": "other"}, kid, command=COMMAND)
    foreign = run({**environ, "JWKS_GUARD_ISSUER": "https://b.test/"}, kid, command=COMMAND)
    del environ["JWKS_GUARD_FLEET"]
    none = run(environ, kid, command=COMMAND)
    for done, why in (
        (few, "1 instance reports, of 3"),
        (other, "No instance reports, of 1"),
        (foreign, "No instance reports, of 1"),
        (none, "No fleet is configured"),
    ):
        assert done.returncode == 1
        assert f"unknown {why}" in words(done.stdout)
        assert f"unknown: {kid} should not be revoked yet" in done.stdout


def test_unknown_kid_ends_with_status_1(environ: dict[str, str]) -> None:
    done = run(environ, "nobody", command=COMMAND)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no such signing key" in done.stderr


def test_tenant_or_fleet_that_can_not_be_reached_ends_with_status_3(
    tenant: LocalTenant, redis: RedisServer, environ: dict[str, str]
) -> None:
    kid = rotated(tenant)
    redis.kill()
    without_fleet = run(environ, kid, "--wait", "1h", command=COMMAND)
    redis.start()
    tenant.stop()
    without_tenant = run(environ, kid, "--json", command=COMMAND)
    for done in (without_fleet, without_tenant):
        assert (done.returncode, done.stdout) == (3, "")
        assert "can't be reached" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("time", ["", "30", "30d", "-1m", "1e3s", "m", "\u0663m", "9" * 9 + "h"])
def test_time_to_wait_that_is_none_is_a_usage_error(environ: dict[str, str], time: str) -> None:
    assert run(environ, "any", f"--wait={time}", command=COMMAND).returncode == 2


def test_waiting_tells_each_change_and_ends_when_it_is_yes(
    tenant: LocalTenant, fleet: ShownFleet, environ: dict[str, str]
) -> None:
    environ["JWKS_GUARD_QUIET_PERIOD_SECONDS"] = "600"
    kid = rotated(tenant)
    fleet.show(healthy(tenant, usage={kid: used(0.0)}))
    with started(environ, kid, "--wait", "1h", command=HURRIED) as waiting:
        assert waiting.stderr is not None
        first = waiting.stderr.readline()
        fleet.show(healthy(tenant))
        out, rest = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 0, rest
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC  no: .*accepted 1 token of ", first)
    assert re.search(r"\[.* left\]", first)
    assert rest.count("\n") <= 2
    assert f"yes: {kid} can be revoked now" in out


def test_waiting_ends_with_status_1_when_the_time_is_up(
    tenant: LocalTenant, redis: RedisServer, environ: dict[str, str]
) -> None:
    kid = rotated(tenant)
    done = run(environ, kid, "--wait", "1s", "--json", command=COMMAND)
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["verdict"] == "unknown"


def test_waiting_outlasts_an_outage_of_the_fleet(
    tenant: LocalTenant, redis: RedisServer, fleet: ShownFleet, environ: dict[str, str]
) -> None:
    kid = rotated(tenant)
    with started(environ, kid, "--wait", "1h", command=HURRIED) as waiting:
        assert waiting.stderr is not None
        assert "unknown: No instance reports" in waiting.stderr.readline()
        redis.kill()
        assert "can't be reached" in waiting.stderr.readline()
        redis.start()
        fleet.show(healthy(tenant))
        _, rest = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 0, rest


def test_waiting_ends_at_once_where_it_would_be_in_vain(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    done = run(environ, tenant.key().kid, "--wait", "10m", command=COMMAND)
    assert done.returncode == 1
    assert "Rotate first." in words(done.stdout)


def test_key_that_is_revoked_already_is_said_to_be(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    kid = rotated(tenant)
    tenant.revoke(kid)
    done = run(environ, kid, command=COMMAND)
    assert done.returncode == 0
    assert "is revoked already." in words(done.stdout)


def test_waiting_in_a_terminal_is_a_countdown(
    tenant: LocalTenant, fleet: ShownFleet, environ: dict[str, str]
) -> None:
    environ["JWKS_GUARD_QUIET_PERIOD_SECONDS"] = "600"
    kid = rotated(tenant)
    fleet.show(healthy(tenant, usage={kid: used(0.0, 7)}))
    with terminal(environ, kid, "--wait", f"{2 * PATIENCE:.0f}s", command=HURRIED) as waiting:
        waiting.expect(": no, waiting for ")
        waiting.expect(" left]")
        waiting.expect_until(lambda shown: len(set(re.findall(LEFT, shown))) > 1)
        fleet.show(healthy(tenant))
        assert waiting.status() == 0
    assert f"yes: {kid} can be revoked now" in words(waiting.shown)


def test_what_the_fleet_says_steers_no_terminal(
    tenant: LocalTenant, fleet: ShownFleet, environ: dict[str, str]
) -> None:
    kid = rotated(tenant)
    hostile = f"kid{ESCAPES}"
    bad = state(
        tenant.issuer,
        tenant.key().kid,
        hostile,
        host="web\u00e9-1:17",
        usage={hostile: used(0.0), kid: used(0.0)},
        refused={hostile: time.time()},
    )
    unreadable = state(tenant.issuer, hostile, instance="b" * 32, host=f"web{ESCAPES}")
    fleet.show(bad, unreadable)
    asked = [
        run(environ, kid, command=COMMAND),
        run(environ, kid, "--json", command=COMMAND),
        run(environ, kid, "--wait", "1s", command=COMMAND),
        run(environ, hostile, command=COMMAND),
    ]
    for done in asked:
        assert done.returncode == 1
        assert (done.stdout + done.stderr).isascii()
        assert not set(done.stdout + done.stderr) & set(ESCAPES)
    assert "web\\xe9-1:17" in asked[0].stdout


def test_instance_that_takes_part_is_shown_with_what_it_accepted(
    tenant: LocalTenant, redis: RedisServer, environ: dict[str, str]
) -> None:
    with instance(tenant, redis) as client:
        token = tenant.token()
        assert [called(client, token) for _ in range(3)] == [200, 200, 200]
        kid = tenant.key().kid
        tenant.rotate()

        def shown_with_three_tokens() -> bool:
            document = json.loads(run(environ, kid, "--json", command=COMMAND).stdout)
            (shown,) = document["instances"]
            counted = shown["usage"].get(kid, {"recent": 0})["recent"]
            return (counted, shown["status"]) == (3, "ok")

        wait_until(shown_with_three_tokens)  # it shows what it counts now and then
