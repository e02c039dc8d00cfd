from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from jwks_guard.admin.journal import default_actor
from jwks_guard.fleet import RedisFleet, commands
from jwks_guard.testing import LocalTenant
from tests.cli.fleet_running import ShownFleet, state, used
from tests.cli.instances_running import (
    POLL,
    SECRET,
    answer,
    balanced,
    over_http,
    over_redis,
    verifier_of,
)
from tests.cli.keys_running import PROGRAM, environment, of_tenant, run, terminal
from tests.redis_server import RedisServer

DISTRUST = (*PROGRAM, "distrust")
REINSTATE = (*PROGRAM, "reinstate")
LEAKED = ("--reason", "found in a public repository", "--yes")
MISTAKE = ("--reason", "a mistake", "--yes")


@pytest.fixture
def tenant() -> Iterator[LocalTenant]:
    with LocalTenant(in_process=True, algorithm="ES256") as tenant:
        tenant.rotate()
        yield tenant


@pytest.fixture
def environ(tenant: LocalTenant, redis: RedisServer, tmp_path: Path) -> dict[str, str]:
    """Of people without access to the Management API."""
    return environment(tmp_path, JWKS_GUARD_FLEET=redis.url, JWKS_GUARD_ISSUER=tenant.issuer)


def over_http_environ(home: Path, tenant: LocalTenant, *urls: str) -> dict[str, str]:
    secret = home / "secret"
    secret.write_text(SECRET)
    return environment(
        home,
        JWKS_GUARD_FLEET=" ".join(urls),
        JWKS_GUARD_FLEET_SECRET_FILE=str(secret),
        JWKS_GUARD_ISSUER=tenant.issuer,
    )


def test_every_instance_over_redis_refuses_the_key_when_the_command_ends(
    tenant: LocalTenant, redis: RedisServer, environ: dict[str, str]
) -> None:
    kid, token = tenant.key().kid, tenant.token()
    with over_redis(tenant, redis) as one, over_redis(tenant, redis) as other:
        assert [answer(each, token) for each in (one, other)] == [kid, kid]
        done = run(environ, kid, *LEAKED, command=DISTRUST)
        assert [answer(each, token) for each in (one, other)] == ["revoked_key"] * 2
        assert (done.returncode, done.stderr) == (0, "")
        headline, *lines = done.stdout.splitlines()
        assert headline == f"{kid} is refused by 2 instances."
        assert sum(line.startswith("  refused          20") for line in lines) == 2
        for each in (one, other):
            assert each.keys.register.instance[:8] in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 80
        assert one.distrusted[kid].by == other.distrusted[kid].by == default_actor()

        done = run(environ, kid, *MISTAKE, command=REINSTATE)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"{kid} is no longer refused by 2 instances.")
        assert done.stdout.count(": trusts it") == 2
        assert [answer(each, token) for each in (one, other)] == [kid, kid]


def test_instances_over_http_refuse_the_key_and_one_that_is_away_is_named(
    tenant: LocalTenant, tmp_path: Path
) -> None:
    kid, token = tenant.key().kid, tenant.token()
    with over_http(tenant) as one, over_http(tenant) as other:
        environ = over_http_environ(tmp_path, tenant, one.url, other.url)
        done = run(environ, kid[:6], *LEAKED, command=DISTRUST)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"{kid} is refused by 2 instances.")
        refused = [answer(each.verifier, token) for each in (one, other)]
        assert refused == ["revoked_key"] * 2
        done = run(environ, kid, *MISTAKE, command=REINSTATE)
        assert (done.returncode, done.stderr) == (0, "")
        assert answer(one.verifier, token) == kid

        other.stop()
        done = run(environ, kid, *LEAKED, command=DISTRUST)
        assert (done.returncode, done.stderr) == (1, "")
        assert "(1 of 2 instances" in done.stdout
        assert "  NOT KNOWN        " in done.stdout
        assert answer(one.verifier, token) == "revoked_key"
        done = run(environ, kid, *MISTAKE, command=REINSTATE)
        assert done.returncode == 1
        assert "trusted again where that is known" in " ".join(done.stderr.split())
        assert f"{httpx.URL(other.url).netloc.decode()} (never heard)" in done.stdout
        assert answer(one.verifier, token) == kid
        one.stop()
        done = run(environ, kid, *LEAKED, command=DISTRUST)
        assert (done.returncode, done.stdout) == (3, "")


@pytest.mark.parametrize("secret", [None, "another secret of ours"])
def test_command_says_that_instances_ignore_it_where_its_secret_is_not_theirs(
    tenant: LocalTenant,
    redis: RedisServer,
    environ: dict[str, str],
    tmp_path: Path,
    secret: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commands, "ACKNOWLEDGE_SECONDS", 0.5)
    kid = tenant.key().kid
    if secret is not None:
        (tmp_path / "secret").write_text(secret)
        environ["JWKS_GUARD_FLEET_SECRET_FILE"] = str(tmp_path / "secret")
    with over_redis(tenant, redis, secret=SECRET) as verifier:
        verifier.distrust("already", reason="leaked")
        why = "this process has no secret" if secret is None else "without a valid signature"
        for command in (
            run(environ, command=(*PROGRAM, "status")),
            run(environ, kid, *LEAKED, command=DISTRUST),
        ):
            assert command.stderr.count(why) == 1
        assert "  NOT KNOWN        " in command.stdout
        assert kid not in verifier.distrusted


def test_json_tells_who_acknowledged(
    tenant: LocalTenant, redis: RedisServer, environ: dict[str, str]
) -> None:
    kid = tenant.key().kid
    with over_redis(tenant, redis) as verifier:
        done = run(environ, kid, *LEAKED, "--json", command=DISTRUST)
        document = json.loads(done.stdout)
        assert (document["kid"], document["known"]) == (kid, True)
        assert document["refused_everywhere"] is True
        (refusal,) = document["refusals"]
        assert verifier.keys.register.instance[:8] in refusal["instance"]
        lifted = json.loads(run(environ, kid, *MISTAKE, "--json", command=REINSTATE).stdout)
        assert (len(lifted["lifted"]), lifted["refusing"], lifted["silent"]) == (1, [], [])


def test_kid_that_no_instance_knows_is_warned_of_and_refused(
    tenant: LocalTenant, redis: RedisServer, environ: dict[str, str]
) -> None:
    with over_redis(tenant, redis) as verifier:
        done = run(environ, "mistyped", *LEAKED, command=DISTRUST)
        assert done.returncode == 0
        assert "No instance knows this key" in done.stderr
        assert "mistyped" in verifier.distrusted


def test_beginning_of_several_kids_is_refused_with_the_candidates(
    fleet: ShownFleet, tenant: LocalTenant, environ: dict[str, str]
) -> None:
    fleet.show(state(tenant.issuer, "abcd-1", "abcd-2", "abcd"))
    done = run(environ, "abcd-", *LEAKED, command=DISTRUST)
    assert (done.returncode, done.stdout) == (2, "")
    assert "abcd-1, abcd-2" in " ".join(done.stderr.split())
    assert run(environ, "abcd", *MISTAKE, command=REINSTATE).returncode == 1


def test_the_only_key_of_an_instance_is_not_distrusted_without_force(
    fleet: ShownFleet, tenant: LocalTenant, environ: dict[str, str]
) -> None:
    fleet.show(state(tenant.issuer, "only"))
    done = run(environ, "only", *LEAKED, command=DISTRUST)
    assert (done.returncode, done.stdout) == (1, "")
    assert "the only key that an instance trusts" in " ".join(done.stderr.split())


def test_instance_that_is_silent_is_named_and_the_answer_is_not_yes(
    fleet: ShownFleet, tenant: LocalTenant, redis: RedisServer, environ: dict[str, str]
) -> None:
    kid = tenant.key().kid
    gone = time.time() - 3_600
    fleet.show(state(tenant.issuer, kid, host="gone:1", reported_at=gone))
    with over_redis(tenant, redis):
        done = run(environ, kid, *LEAKED, command=DISTRUST)
        assert (done.returncode, done.stderr) == (1, "")
        assert "NOT KNOWN        gone:1 (a1b2c3d4)" in done.stdout
        done = run(environ, kid, *MISTAKE, command=REINSTATE)
        assert done.returncode == 1
        assert "1 silent instance: gone:1 (a1b2c3d4) (1 h ago)" in done.stdout


def test_without_an_instance_the_decision_is_kept_and_the_answer_is_not_yes(
    tenant: LocalTenant, redis: RedisServer, environ: dict[str, str]
) -> None:
    kid = tenant.key().kid
    assert run(environ, kid, *LEAKED, command=DISTRUST).returncode == 1
    with verifier_of(tenant, RedisFleet(redis.url, poll_interval=POLL)) as verifier:
        assert answer(verifier, tenant.token()) == "revoked_key"


def test_redis_that_can_not_be_reached_ends_with_status_3(
    redis: RedisServer, environ: dict[str, str]
) -> None:
    redis.kill()
    for command in (DISTRUST, REINSTATE):
        done = run(environ, "leaked", *LEAKED, command=command)
        assert (done.returncode, done.stdout) == (3, "")
        assert "Traceback" not in done.stderr
        assert "No instance was told: nothing was done." in done.stderr


def test_without_a_terminal_nothing_is_done_unless_yes_is_given(environ: dict[str, str]) -> None:
    for command in (DISTRUST, REINSTATE):
        done = run(environ, "leaked", "--reason", "leaked", command=command)
        assert (done.returncode, done.stdout) == (2, "")
        assert "add --yes" in " ".join(done.stderr.split())
        without = {name: value for name, value in environ.items() if name != "JWKS_GUARD_FLEET"}
        done = run(without, "leaked", "--reason", "leaked", command=command)
        assert "Not configured: set JWKS_GUARD_FLEET" in done.stderr


def test_key_whose_tokens_are_in_use_is_warned_of_before_consent(
    fleet: ShownFleet, tenant: LocalTenant, environ: dict[str, str]
) -> None:
    fleet.show(state(tenant.issuer, "busy", "idle", usage={"busy": used(0.0), "idle": used(120.0)}))
    for kid, warned in (("busy", True), ("idle", False)):
        with terminal(environ, kid, "--reason", "leaked", command=DISTRUST) as shown:
            shown.expect("type the last 4 characters")
            assert ("Clients use tokens of this key now" in shown.shown) is warned


def test_terminal_asks_for_the_end_of_the_kid(
    tenant: LocalTenant, redis: RedisServer, environ: dict[str, str]
) -> None:
    kid = tenant.key().kid
    reason = ("--reason", "leaked")
    with over_redis(tenant, redis) as verifier:
        with terminal(environ, kid[:8], *reason, command=DISTRUST) as shown:
            shown.expect("type the last 4 characters")
            assert kid in shown.shown
            assert "trusted by" in shown.shown
            shown.type("nope\n")
            assert shown.status() == 1
        assert kid not in verifier.distrusted
        with terminal(environ, kid[:8], *reason, command=DISTRUST) as shown:
            shown.expect("type the last 4 characters")
            assert shown.interrupted() == 1
            assert "Nothing was done." in shown.shown
        assert kid not in verifier.distrusted
        with terminal(environ, kid[:8], *reason, command=DISTRUST) as shown:
            shown.expect("type the last 4 characters")
            shown.type(f"{kid[-4:]}\n")
            assert shown.status() == 0
        assert kid in verifier.distrusted


def test_state_of_a_key_names_it_where_the_management_api_is_configured(
    redis: RedisServer, tmp_path: Path
) -> None:
    with LocalTenant(algorithm="ES256") as tenant, over_redis(tenant, redis) as verifier:
        old = tenant.key().kid
        tenant.rotate()
        environ = environment(tmp_path, **of_tenant(tenant), JWKS_GUARD_FLEET=redis.url)
        done = run(environ, "previous", *LEAKED, command=DISTRUST)
        assert (done.returncode, done.stderr) == (0, "")
        assert old in verifier.distrusted
        del environ["JWKS_GUARD_CLIENT_ID"]
        assert run(environ, "current", *LEAKED, command=DISTRUST).returncode == 2


def test_without_a_reason_it_is_a_usage_error(environ: dict[str, str]) -> None:
    assert run(environ, "leaked", "--yes", command=DISTRUST).returncode == 2


def test_several_processes_behind_one_url_are_reported_and_keep_nobody_from_distrusting(
    tenant: LocalTenant, tmp_path: Path
) -> None:
    kid = tenant.key().kid
    with over_http(tenant) as one, over_http(tenant) as other, balanced(one, other) as url:
        done = run(over_http_environ(tmp_path, tenant, url), kid, *LEAKED, command=DISTRUST)
        assert done.returncode == 1
        assert "NOT KNOWN" in done.stdout
        assert kid in {**one.verifier.distrusted, **other.verifier.distrusted}
