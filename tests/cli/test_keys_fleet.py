"""The `keys` commands with a fleet: what its instances show before, and how they refuse a key."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jwks_guard.admin import rotation
from jwks_guard.readiness.state import InstanceState
from jwks_guard.testing import LocalTenant
from jwks_guard.testing.settings import SIGNING_KEYS_PATH
from tests.cli.fleet_running import ShownFleet, called, instance, state, used
from tests.cli.keys_running import FORCED, environment, of_tenant, run
from tests.process.programs import wait_until
from tests.redis_server import RedisServer

LIFETIME = 0.1  # s


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
        JWKS_GUARD_QUIET_PERIOD_SECONDS="0.1",
    )


def rotated(tenant: LocalTenant) -> str:
    """The kid of a key that stopped signing longer ago than its tokens live."""
    tenant.rotate()
    ended = tenant.key("previous").current_until or 0.0
    wait_until(lambda: time.time() > ended + LIFETIME)
    return tenant.key("previous").kid


def healthy(tenant: LocalTenant, **members: Any) -> InstanceState:
    return state(tenant.issuer, tenant.key("next").kid, tenant.key().kid, **members)


def changes(tenant: LocalTenant) -> list[tuple[str, str]]:
    sent = [each for each in tenant.requests if each[0] != "GET" and each[1] != "/oauth/token"]
    return [(method, path.removeprefix(SIGNING_KEYS_PATH)) for method, path in sent]


def journal(home: Path) -> list[dict[str, Any]]:
    path = home / ".local/state/jwks-guard/journal.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def words(text: str) -> str:
    return " ".join(text.split())


def test_plan_of_a_rotation_says_who_lacks_the_next_key(
    tenant: LocalTenant, fleet: ShownFleet, environ: dict[str, str]
) -> None:
    nobody = run(environ, "rotate", "--dry-run")
    assert "No instance reports. The rotation is refused until one does" in words(nobody.stdout)
    fleet.show(healthy(tenant))
    ready = run(environ, "rotate", "--dry-run")
    following = tenant.key("next").kid
    assert f"1 instance reports. All of them trust the next key, {following}." in ready.stdout
    late = state(tenant.issuer, tenant.key().kid, instance="b" * 32, host="web-2:18")
    fleet.show(late)
    some = words(run(environ, "rotate", "--dry-run").stdout)
    assert f"2 instances report. Not all of them trust the next key, {following}, yet" in some
    assert "yet: web-2:18 (bbbbbbbb). Each refreshes first" in some
    assert changes(tenant) == []


def test_rotate_is_refused_while_an_instance_lacks_the_next_key(
    tenant: LocalTenant,
    fleet: ShownFleet,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rotation, "PREPARED_SECONDS", 0.1)
    fleet.show(state(tenant.issuer, tenant.key().kid))
    refused = run(environ, "rotate", "--yes")
    assert refused.returncode == 1
    assert "is not trusted by web-1:17 (a1b2c3d4)" in words(refused.stderr)
    assert changes(tenant) == []
    fleet.show(healthy(tenant))
    assert run(environ, "rotate", "--yes").returncode == 0
    assert changes(tenant) == [("POST", "/rotate")]


def test_rotate_says_that_the_fleet_can_not_be_asked_or_shows_no_instance(
    tenant: LocalTenant, redis: RedisServer, environ: dict[str, str]
) -> None:
    nobody = run(environ, "rotate", "--yes")
    assert nobody.returncode == 1
    assert f"the fleet of {tenant.issuer}, of which no instance reports" in words(nobody.stderr)
    redis.kill()
    unasked = run(environ, "rotate", "--yes")
    assert unasked.returncode == 3
    assert "The fleet can't be asked, so the rotation is refused." in words(unasked.stdout)
    assert "So it is not known whether its instances trust the next key" in words(unasked.stderr)
    assert "is not trusted by" not in words(unasked.stderr)
    assert changes(tenant) == []


def test_planned_revocation_of_a_key_that_nobody_needs_is_no_alarm(
    tenant: LocalTenant, redis: RedisServer, environ: dict[str, str]
) -> None:
    environ["JWKS_GUARD_QUIET_PERIOD_SECONDS"] = "1"
    with instance(tenant, redis):
        kid = tenant.key().kid
        assert run(environ, "rotate", "--yes").returncode == 0
        wait_until(lambda: "not ready" not in run(environ, "revoke", kid, "--dry-run").stdout)
        done = run(environ, "revoke", kid, "--yes")
    assert done.returncode == 0
    told = words(done.stdout)
    assert f"The last access token signed by {kid} had expired by" in told
    for alarm in ("also before it expires", "have to get new ones", "would have expired"):
        assert alarm not in told


def test_revoke_is_refused_with_every_blocker_before_anybody_is_asked(
    tenant: LocalTenant, fleet: ShownFleet, environ: dict[str, str], tmp_path: Path
) -> None:
    kid = rotated(tenant)
    fleet.show(healthy(tenant, usage={kid: used(0.0, 132)}))
    for arguments in (("--yes",), ("--yes", "--json")):
        done = run({**environ, "JWKS_GUARD_EXPECTED_INSTANCES": "2"}, "revoke", kid, *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"{kid} is not ready to be revoked. Nothing was done.\n")
        assert f"  - Tokens of {kid}, also those" in done.stderr
        assert "  - 1 instance reports, of 2 expected." in done.stderr
        assert "--force with a --reason" in done.stderr
    assert changes(tenant) == []
    assert (tmp_path / ".local/state/jwks-guard/journal.jsonl").read_bytes() == b""


def test_plan_of_a_revocation_that_is_not_ready_says_why(
    tenant: LocalTenant, fleet: ShownFleet, environ: dict[str, str]
) -> None:
    kid = rotated(tenant)
    fleet.show(healthy(tenant, usage={kid: used(0.0, 132)}))
    planned = run(environ, "revoke", kid, "--dry-run")
    assert planned.returncode == 0
    assert f"It is not ready (no): Tokens of {kid}, also those" in words(planned.stdout)
    assert "1 instance reports. The fleet refuses the key once" in words(planned.stdout)
    fleet.clear()
    fleet.show(healthy(tenant))
    ready = run(environ, "revoke", kid, "--dry-run")
    assert "every instance was watched, and none needs the key" in words(ready.stdout)
    assert changes(tenant) == []


def test_force_takes_a_reason_and_is_written_down(
    tenant: LocalTenant, fleet: ShownFleet, environ: dict[str, str], tmp_path: Path
) -> None:
    kid = rotated(tenant)
    fleet.show(healthy(tenant, usage={kid: used(0.0, 132)}, refused={kid: time.time()}))
    fleet.fall_silent()
    bare = run(environ, "revoke", kid, "--yes", "--force")
    assert bare.returncode == 2
    assert "takes a --reason" in words(bare.stderr)
    assert changes(tenant) == []
    done = run(environ, "revoke", kid, "--yes", *FORCED)
    assert (done.returncode, done.stderr) == (1, "")
    assert "it has not acknowledged the decision" in words(done.stdout)  # it is not there at all
    assert "It is not ready (no): " in words(done.stdout)
    assert "It was forced: the verdict before was no." in done.stdout
    steps = {record["step"]: record for record in journal(tmp_path)}
    assert steps["forced"]["result"] == "warning"
    assert "also those never used here, may be valid" in steps["forced"]["detail"]
    assert steps["forced"]["reason"] == FORCED[-1]


def test_revocation_tells_every_instance_and_the_receipt_says_since_when(
    tenant: LocalTenant, redis: RedisServer, environ: dict[str, str]
) -> None:
    environ["JWKS_GUARD_QUIET_PERIOD_SECONDS"] = "600"
    with instance(tenant, redis) as one, instance(tenant, redis) as two:
        token, kid = tenant.token(), tenant.key().kid
        assert run(environ, "rotate", "--yes").returncode == 0
        assert [called(each, token) for each in (one, two)] == [200, 200]

        def refused_as_it_is_in_use() -> bool:
            refused = run(environ, "revoke", kid, "--yes")
            assert refused.returncode == 1
            return refused.stderr.count(f" accepted 1 token of {kid} in the last 10 min") == 2

        wait_until(refused_as_it_is_in_use)  # each instance shows what it counts now and then
        assert [called(each, token) for each in (one, two)] == [200, 200]
        done = run(environ, "revoke", kid, "--yes", *FORCED)
        assert (done.returncode, done.stderr) == (0, "")
        since = re.findall(r"^  refused +\S+ [\d:.]+ UTC by (\S+) \(", done.stdout, re.MULTILINE)
        assert len(set(since)) == 2
        assert [called(each, token) for each in (one, two)] == [401, 401]
        assert [called(each, tenant.token()) for each in (one, two)] == [200, 200]


def test_revocation_after_a_yes_needs_no_force(
    tenant: LocalTenant, redis: RedisServer, environ: dict[str, str], tmp_path: Path
) -> None:
    environ["JWKS_GUARD_QUIET_PERIOD_SECONDS"] = "1"
    with instance(tenant, redis) as client:
        kid = tenant.key().kid
        assert run(environ, "rotate", "--yes").returncode == 0
        wait_until(lambda: "not ready" not in run(environ, "revoke", kid, "--dry-run").stdout)
        done = run(environ, "revoke", kid, "--yes", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        receipt = json.loads(done.stdout)
        assert receipt["readiness"]["verdict"] == "yes"
        (refusal,) = receipt["refusals"]
        assert (refusal["error"], bool(refusal["since"])) == (None, True)
        assert called(client, tenant.token()) == 200
    assert "forced" not in [record["step"] for record in journal(tmp_path)]


@pytest.mark.parametrize("how", [("--emergency",), FORCED], ids=["emergency", "force"])
def test_emergency_and_force_go_on_without_the_fleet(
    tenant: LocalTenant, redis: RedisServer, environ: dict[str, str], how: tuple[str, ...]
) -> None:
    leaked, before = tenant.key().kid, rotated(tenant)
    assert leaked == before
    redis.kill()
    planned = run(environ, "revoke", leaked, "--yes")
    assert planned.returncode == 3
    assert changes(tenant) == []
    done = run(environ, "revoke", leaked, "--yes", *how)
    assert done.returncode == 1
    assert "The fleet can't be asked which instances report" in words(done.stdout)
    assert "NOT KNOWN" in done.stdout
    assert "Not every verifier is known to refuse the key" in words(done.stdout)
    assert f"the fleet of {tenant.issuer}: Nobody was told" in words(done.stdout)
    assert "are refused" not in words(done.stdout).partition("some steps are not done")[2]
    emergency = "--emergency " if how == ("--emergency",) else ""
    finish = f"`jwks-guard keys revoke {emergency}-- {leaked}`"
    assert f"To finish, and to see whether that is done: {finish}" in words(done.stdout)
    repeated = run(environ, "revoke", "--yes", *emergency.split(), "--", leaked)
    assert repeated.returncode == 1
    assert "lost" not in repeated.stdout
    assert changes(tenant) == [("PUT", f"/{leaked}/revoke")]
    again = run(environ, "rotate-and-revoke", "--yes", "--json")
    assert again.returncode == 1
    (refusal,) = json.loads(again.stdout)["refusals"]
    assert refusal["since"] is None
    assert "Nobody was told" in refusal["error"]
    assert changes(tenant)[1][1] == "/rotate"


def test_names_from_the_fleet_steer_no_terminal(
    tenant: LocalTenant,
    fleet: ShownFleet,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rotation, "PREPARED_SECONDS", 0.1)
    kid = rotated(tenant)
    fleet.show(state(tenant.issuer, host="w\u00e9b\u202f-1:17", usage={kid: used(0.0)}))
    fleet.show(state(tenant.issuer, instance="c" * 32, host="web\u00e9-1:17"))
    told = [
        run(environ, "rotate", "--dry-run"),
        run(environ, "revoke", kid, "--dry-run"),
        run(environ, "revoke", kid, "--yes"),
        run(environ, "rotate", "--yes"),
    ]
    for done in told:
        assert (done.stdout + done.stderr).isascii()
    assert "web\\xe9-1:17" in told[0].stdout
