from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jwks_guard.cli.keys.kids import matching
from jwks_guard.errors import ConfigurationError
from jwks_guard.testing import LocalTenant
from tests.cli.keys_running import FORCED, PROGRAM, environment, of_tenant, run

CAN_REVOKE = (*PROGRAM, "can-revoke")


@pytest.fixture
def tenant() -> Iterator[LocalTenant]:
    with LocalTenant(algorithm="ES256") as tenant:
        tenant.rotate()
        yield tenant


@pytest.fixture
def environ(tenant: LocalTenant, tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path, **of_tenant(tenant))


def test_a_whole_kid_is_meant_although_others_begin_with_it() -> None:
    assert matching("abcd", ["abcd-1", "abcd"]) == "abcd"
    assert matching("ab", ["ab"]) == "ab"


def test_a_beginning_is_taken_if_it_is_long_enough_and_of_one_kid() -> None:
    assert matching("abcd", ["abcd-1", "abce"]) == "abcd-1"
    assert matching("abc", ["abcd-1"]) is None
    assert matching("wxyz", ["abcd-1"]) is None
    with pytest.raises(ConfigurationError, match="2 keys begin with abcd: abcd-1, abcd-2"):
        matching("abcd", ["abcd-2", "abcd-1"])


def test_of_many_candidates_the_first_are_listed() -> None:
    with pytest.raises(ConfigurationError, match="and 5 more"):
        matching("kid-", [f"kid-{number:02}" for number in range(15)])


def test_keys_commands_take_the_beginning_of_a_kid_and_its_state(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    for word in ("previous", "current", "next"):
        kid = tenant.key(word).kid
        for named in (word, kid[:8]):
            assert kid in run(environ, "show", named).stdout
    previous = tenant.key("previous").kid
    unasked = run(environ, "revoke", "previous", *FORCED, "--yes")
    assert unasked.returncode == 2
    assert not tenant.key(previous).revoked
    done = run(environ, "revoke", previous[:8], *FORCED, "--yes", "--confirm-within", "0.1")
    assert f"{previous} is revoked" in done.stdout
    assert tenant.key(previous).revoked
    assert run(environ, "show", "previous").returncode == 2
    assert run(environ, "show", "nowhere").returncode == 1


def test_can_revoke_takes_the_state_of_a_key(tenant: LocalTenant, environ: dict[str, str]) -> None:
    done = run(environ, "current", command=CAN_REVOKE)
    assert done.returncode == 1
    assert tenant.key().kid in done.stdout


def test_leaked_key_is_named_by_the_beginning_of_its_kid(
    tenant: LocalTenant, environ: dict[str, str]
) -> None:
    leaked, after = tenant.key().kid, tenant.key("next").kid
    done = run(environ, "rotate-and-revoke", leaked[:8], "--yes", "--confirm-within", "0.1")
    assert f"{leaked} is revoked" in done.stdout
    assert tenant.key().kid == after
